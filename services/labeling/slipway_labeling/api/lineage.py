"""Lineage over gRPC."""

from typing import Any

from slipway.labeling.v1 import labeling_pb2 as pb

from slipway_labeling.usecases.lineage import Lineage


class LineagePart:
    """The methods of lineage."""

    _lineage: Lineage

    def ListChildren(self, request: pb.ListChildrenRequest, context: Any) -> pb.ListChildrenResponse:
        names, token = self._lineage.children(request.name, request.page_size, request.page_token)
        return pb.ListChildrenResponse(names=names, next_page_token=token)

    def ListParents(self, request: pb.ListParentsRequest, context: Any) -> pb.ListParentsResponse:
        names, token = self._lineage.parents(request.name, request.page_size, request.page_token)
        return pb.ListParentsResponse(names=names, next_page_token=token)

    def ListContributors(
        self, request: pb.ListContributorsRequest, context: Any
    ) -> pb.ListContributorsResponse:
        found, token = self._lineage.contributors(request.parent, request.page_size, request.page_token)
        contributors = [
            pb.Contributor(
                annotator=f"annotators/{one.annotator}",
                annotation_count=one.annotation_count,
                example_count=one.example_count,
                annotations=[f"annotations/{id}" for id in one.first],
            )
            for one in found
        ]
        return pb.ListContributorsResponse(contributors=contributors, next_page_token=token)
