"""A process of annotators for the campaign: `python annotating.py ORDER`, killed at any moment.

Each annotator is a thread that claims, answers and writes every acknowledged answer into its journal, on disk
before it goes on. A restarted process goes on as the same people: what they hold comes first again.
"""

import hashlib
import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from campaign import Journal
from slipway.labeling.v1 import labeling_pb2 as pb
from slipway.labeling.v1 import labeling_pb2_grpc
from slipway_runtime.errors import SlipwayError
from slipway_runtime.rpc import channel, from_rpc_error

LABELS = ("rose", "tulip", "lily")
COUNT = 3  # leases that one annotator holds
CALL_S = 5.0
PASSING = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}


@dataclass(frozen=True)
class Order:
    """What a process of annotators is told."""

    address: str
    project: str
    folder: str
    tokens: dict[str, str]


def label_of(key: str, annotator: str) -> str:
    """Return what an annotator answers to an example: anything, but always the same."""
    return LABELS[hashlib.sha256(f"{key} {annotator}".encode()).digest()[0] % len(LABELS)]


def line_of(annotation: pb.Annotation) -> str:
    """Return an annotation as the journal has it: one word."""
    return ";".join(
        (annotation.name, annotation.task, annotation.annotator, *annotation.answer.choice.labels)
    )


class Annotator(threading.Thread):
    """One person: claims, answers, writes down, until the process ends."""

    def __init__(self, order: Order, name: str) -> None:
        super().__init__(daemon=True)
        self._order = order
        self._name = name
        self._journal = Journal(Path(order.folder) / f"{name}.journal")
        opened = channel(order.address, token=lambda: order.tokens[name])
        self._stub = labeling_pb2_grpc.LabelingServiceStub(opened)

    def run(self) -> None:
        """Work; whatever is not the death of a neighbour is noted as a fault."""
        try:
            while True:
                request = pb.ClaimTasksRequest(parent=self._order.project, count=COUNT)
                held = self._until_answered(self._stub.ClaimTasks, request).assignments
                for assignment in held:
                    self._answer(assignment)
                if not held:
                    time.sleep(0.2)
        except BaseException as error:
            (Path(self._order.folder) / f"{self._name}.fault").write_text(repr(error))
            raise

    def _answer(self, assignment: pb.Assignment) -> None:
        choice = pb.Choice(labels=[label_of(assignment.key, self._name)])
        request = pb.SubmitAnnotationRequest(
            name=assignment.name,
            answer=pb.Answer(choice=choice),
            lead_ms=1,
            request_id=f"{assignment.name.rpartition('/tasks/')[2]} {assignment.claim_time.ToJsonString()}",
        )
        try:
            made = self._until_answered(self._stub.SubmitAnnotation, request)
        except SlipwayError as error:
            if error.reason != "LEASE_EXPIRED":
                raise
            return
        self._journal.acknowledge(line_of(made))

    def _until_answered(self, call: Any, request: Any) -> Any:
        while True:
            try:
                return call(request, timeout=CALL_S)
            except grpc.RpcError as error:
                if error.code().name not in PASSING:
                    raise from_rpc_error(error) from error
                time.sleep(0.05)


def main() -> None:
    """Work as every annotator of the order."""
    order = Order(**json.loads(Path(sys.argv[1]).read_text()))
    people = [Annotator(order, name) for name in order.tokens]
    for one in people:
        one.start()
    for one in people:
        one.join()


if __name__ == "__main__":
    main()
