"""Files over gRPC."""

from collections.abc import Iterator
from typing import Any

from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_runtime.errors import InvalidArgument

from slipway_labeling.usecases.files import FileFormat, Files


class FilesPart:
    """The methods over files."""

    _files: Files

    def ExportAnnotations(
        self, request: pb.ExportAnnotationsRequest, context: Any
    ) -> Iterator[pb.ExportAnnotationsResponse]:
        for piece in self._files.export(request.parent, from_format(request.format, "format")):
            yield pb.ExportAnnotationsResponse(chunk=piece)

    def ImportAnnotations(
        self, requests: Iterator[pb.ImportAnnotationsRequest], context: Any
    ) -> pb.ImportAnnotationsResponse:
        first = next(requests, pb.ImportAnnotationsRequest())
        if first.WhichOneof("payload") != "header":
            raise InvalidArgument.field("header", "is missing; send it first, with project and format")
        header = first.header
        format = from_format(header.format, "header.format")
        made = self._files.import_(header.parent, format, header.request_id, map(_chunk, requests))
        return pb.ImportAnnotationsResponse(**vars(made))


def _chunk(request: pb.ImportAnnotationsRequest) -> bytes:
    if request.WhichOneof("payload") != "chunk":
        raise InvalidArgument.field("chunk", "is missing; after the header every message carries one")
    return bytes(request.chunk)


def from_format(value: int, field_name: str) -> FileFormat:
    """Return a format.

    Raises:
        InvalidArgument: It is none.
    """
    if value not in pb.FileFormat.values() or value == pb.FILE_FORMAT_UNSPECIFIED:
        known = ", ".join(FileFormat)
        raise InvalidArgument.field(field_name, f"is {value}; send one of {known}")
    return FileFormat(pb.FileFormat.Name(value))
