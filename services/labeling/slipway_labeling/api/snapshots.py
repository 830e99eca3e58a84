"""Snapshots over gRPC."""

from collections.abc import Iterator
from typing import Any

from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_runtime.db import Repeat
from slipway_runtime.rpc import timestamp

from slipway_labeling.domain.snapshots import Snapshot, SnapshotSpec
from slipway_labeling.usecases.snapshots import Snapshots


class SnapshotsPart:
    """The methods over snapshots."""

    _snapshots: Snapshots

    def CreateSnapshot(self, request: pb.CreateSnapshotRequest, context: Any) -> pb.Snapshot:
        asked = request.snapshot
        spec = SnapshotSpec(branch=asked.branch, message=asked.message, min_confidence=asked.min_confidence)
        return to_snapshot(self._snapshots.create(request.parent, spec, Repeat.of(request)))

    def GetSnapshot(self, request: pb.GetSnapshotRequest, context: Any) -> pb.Snapshot:
        return to_snapshot(self._snapshots.get(request.name))

    def ListSnapshots(self, request: pb.ListSnapshotsRequest, context: Any) -> pb.ListSnapshotsResponse:
        found, token = self._snapshots.list(request.parent, request.page_size, request.page_token)
        return pb.ListSnapshotsResponse(snapshots=map(to_snapshot, found), next_page_token=token)

    def WatchSnapshot(self, request: pb.WatchSnapshotRequest, context: Any) -> Iterator[pb.Snapshot]:
        for snapshot in self._snapshots.watch(request.name, context.is_active):
            yield to_snapshot(snapshot)


def to_snapshot(snapshot: Snapshot) -> pb.Snapshot:
    """Return a snapshot."""
    return pb.Snapshot(
        name=snapshot.name,
        branch=snapshot.spec.branch,
        message=snapshot.spec.message,
        min_confidence=snapshot.spec.min_confidence,
        state=str(snapshot.state),
        error=snapshot.error,
        commit=snapshot.commit,
        label_count=snapshot.label_count,
        left_out_count=snapshot.left_out_count,
        annotation_count=snapshot.annotation_count,
        creator=snapshot.creator,
        create_time=timestamp(snapshot.create_time),
        end_time=timestamp(snapshot.end_time),
    )
