"""Ingestion as labeling needs it: domain in, domain out, the deadline inside."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import grpc
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway_runtime.errors import InvalidArgument, NotFound
from slipway_runtime.identity import ON_BEHALF_OF
from slipway_runtime.rpc import Channels, from_rpc_error

from slipway_labeling.domain.snapshots import Row
from slipway_labeling.domain.tasks import Example

CALL_S = 10.0
BULK_S = 300.0
KEYS_PER_CALL = 1000  # what ReadExamples takes
WHOLE_FROM = 20_000  # keys from which on the whole commit is read


@contextmanager
def _errors(*, own_request: bool = False) -> Iterator[None]:
    """Turn what ingestion answered into our errors.

    Args:
        own_request: Whether we made the request, and no caller: then ingestion's reason stays as it is.

    Raises:
        NotFound: Ingestion has no such data set, branch, commit or example (DATASET_NOT_FOUND).
        InvalidArgument: Ingestion refuses the request; the text says why.
    """
    try:
        yield
    except grpc.RpcError as error:
        ours = from_rpc_error(error)
        if isinstance(ours, NotFound):
            raise NotFound("DATASET_NOT_FOUND", ours.message, metadata=ours.metadata) from error
        if isinstance(ours, InvalidArgument) and not own_request:
            raise InvalidArgument(
                "INVALID_FIELD", f"ingestion refuses: {ours.message}", violations=ours.violations
            ) from error
        raise ours from error


class Ingestion:
    """Reads commits, and makes those of snapshots. Every effect is the same when it is repeated.

    Args:
        channels: Of this process.
        address: Of ingestion.
    """

    def __init__(self, channels: Channels, address: str) -> None:
        service = ing.DESCRIPTOR.services_by_name["IngestionService"]
        self._stub = ing_grpc.IngestionServiceStub(channels.to(address, service, timeout_s=CALL_S))

    def check_dataset(self, dataset: str) -> None:
        """Do nothing if there is a data set of that name.

        Raises:
            NotFound: There is none; near matches are named (DATASET_NOT_FOUND).
        """
        with _errors():
            self._stub.GetDataset(ing.GetDatasetRequest(name=dataset))

    def head(self, dataset: str, branch: str) -> str:
        """Return the name of the commit that a branch points at.

        Args:
            dataset: `datasets/{dataset}`.
            branch: Its id.
        """
        with _errors():
            name = f"{dataset}/branches/{branch}"
            return str(self._stub.GetBranch(ing.GetBranchRequest(name=name)).commit)

    def examples(self, commit: str, *, split: str = "", keys: Sequence[str] = ()) -> Iterator[Example]:
        """Yield a commit's examples without bytes, by key within each thousand of the keys asked for."""
        for one in self._read(commit, split, keys):
            yield Example(one.key, one.blob, one.media_type, one.label, one.split)

    def rows(self, commit: str, keys: Sequence[str]) -> dict[str, Row]:
        """Return what a snapshot must leave as it is, by key; keys that the commit has not are missing."""
        wanted = set(keys)
        return {
            one.key: Row(one.key, one.blob, one.label, one.label_source, one.group, dict(one.attributes))
            for one in self._read(commit, "", keys if len(keys) < WHOLE_FROM else ())
            if one.key in wanted
        }

    def media(self, commit: str, key: str) -> tuple[str, bytes]:
        """Return media type and bytes of one example."""
        with _errors():
            request = ing.ReadExamplesRequest(commit=commit, keys=[key])
            for part in self._stub.ReadExamples(request, timeout=CALL_S):
                for item in part.examples:
                    return str(item.example.media_type), bytes(item.data)
        message = f"{commit} has no example {key!r}; it may have been in another commit"
        raise NotFound("DATASET_NOT_FOUND", message, metadata={"key": key})

    def erasures(self, after: int) -> list[tuple[int, str]]:
        """Return (number, `datasets/{dataset}`) of erasures that ended, past a number, by number."""
        request = ing.ListErasuresRequest(parent="datasets/-", after_number=after, page_size=KEYS_PER_CALL)
        with _errors(own_request=True):
            found = self._stub.ListErasures(request).erasures
        return [(one.number, one.name.partition("/erasures/")[0]) for one in found]

    def erased(self, dataset: str, examples: Sequence[tuple[str, str]]) -> list[int]:
        """Return the places of those of the examples (key, blob) that were erased."""
        places: list[int] = []
        for start in range(0, len(examples), KEYS_PER_CALL):
            part = examples[start : start + KEYS_PER_CALL]
            asked = [ing.ExampleIdentity(key=key, blob=blob) for key, blob in part]
            with _errors():
                found = self._stub.CheckErased(ing.CheckErasedRequest(parent=dataset, examples=asked)).erased
            places += [start + one.index for one in found]
        return places

    def upload(self, dataset: str, rows: Iterable[Row], request_id: str) -> str:
        """Lay rows ready for a commit; return the upload's name. No bytes travel.

        Args:
            dataset: `datasets/{dataset}`.
            rows: Of examples that are there; with an empty blob the bytes stay the head's.
            request_id: The same again with the same rows returns the same upload.

        Raises:
            InvalidArgument: Ingestion refuses a row; the text names the first.
        """
        with _errors(own_request=True):
            made = self._stub.UploadExamples(_upload_parts(dataset, rows, request_id), timeout=BULK_S)
        if made.refused_count:
            first = made.refused[0]
            message = f"ingestion refuses {made.refused_count} rows; the first: {first.message}"
            raise InvalidArgument("INVALID_FIELD", message)
        return str(made.name)

    def commit(
        self,
        dataset: str,
        branch: str,
        uploads: Sequence[str],
        message: str,
        request_id: str,
        *,
        on_behalf_of: str = "",
        expected_head: str = "",
    ) -> str:
        """Lay uploads over the branch's head and move it; return the commit's name.

        Args:
            dataset: `datasets/{dataset}`.
            branch: Its id.
            uploads: Names of uploads.
            message: Why.
            request_id: The same again with the same content returns the same commit.
            on_behalf_of: `users/{user}` who becomes the author; this service when empty.
            expected_head: Commit that the branch must be at; any when empty.

        Raises:
            Aborted: The head is another one (BRANCH_MOVED).
            InvalidArgument: Nothing would change (EMPTY_COMMIT).
        """
        request = ing.CreateCommitRequest(
            parent=dataset,
            branch=branch,
            uploads=uploads,
            message=message,
            expected_head=expected_head,
            request_id=request_id,
        )
        user = [(ON_BEHALF_OF, on_behalf_of)] if on_behalf_of.startswith("users/") else []
        with _errors(own_request=True):
            return str(self._stub.CreateCommit(request, timeout=BULK_S, metadata=user).name)

    def _read(self, commit: str, split: str, keys: Sequence[str]) -> Iterator[ing.Example]:
        parts = [keys[start : start + KEYS_PER_CALL] for start in range(0, len(keys), KEYS_PER_CALL)]
        for part in parts or [()]:
            request = ing.ReadExamplesRequest(commit=commit, split=split, keys=part, rows_only=True)
            with _errors():
                for message in self._stub.ReadExamples(request, timeout=BULK_S):
                    for item in message.examples:
                        yield item.example


def _upload_parts(dataset: str, rows: Iterable[Row], request_id: str) -> Iterator[ing.UploadExamplesRequest]:
    header = ing.UploadHeader(parent=dataset, request_id=request_id, label_source="imports/labeling")
    yield ing.UploadExamplesRequest(header=header)
    for row in rows:
        item = ing.UploadItem(
            key=row.key,
            label=row.label,
            label_source=row.label_source,
            group=row.group,
            attributes=row.attributes,
        )
        if row.blob:
            item.blob = row.blob
        yield ing.UploadExamplesRequest(item=item)
