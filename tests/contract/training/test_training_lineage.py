"""What callers may rely on when they ask what a job was made of, and what came of it."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from running import Service
from slipway.training.v1 import training_pb2 as pb
from slipway_runtime.rpc import from_rpc_error
from test_training import asked, create, packed, upload  # noqa: F401 - a fixture

Start = Callable[..., Service]


def children(stub: Any, name: str, **page: Any) -> list[str]:
    return list(stub.ListChildren(pb.ListChildrenRequest(name=name, **page)).names)


def parents(stub: Any, name: str) -> list[str]:
    return list(stub.ListParents(pb.ListParentsRequest(name=name)).names)


def test_a_job_leads_to_its_run_and_back_to_commit_and_code_and_a_scoring_to_its_version(
    stub: Any,
    asked: pb.TrainingJob,  # noqa: F811
    start_worker: Start,
) -> None:
    start_worker()
    job = create(stub, asked, epochs=3)

    *_, done = stub.WatchTrainingJob(pb.WatchTrainingJobRequest(name=job.name), timeout=240)
    scoring = stub.CreateScoringJob(
        pb.CreateScoringJobRequest(
            scoring_job=pb.ScoringJob(
                model_version=done.model_version, dataset_commit=asked.dataset_commit, evaluate=True
            )
        )
    )
    *_, scored = stub.WatchScoringJob(pb.WatchScoringJobRequest(name=scoring.name), timeout=240)

    assert (done.error, scored.error) == ("", "")
    assert children(stub, job.name) == [done.run]
    assert parents(stub, job.name) == [asked.dataset_commit, asked.task_code]
    assert job.name in children(stub, asked.task_code)
    assert {job.name, scoring.name} <= set(children(stub, asked.dataset_commit))
    assert children(stub, done.model_version) == [scoring.name]
    assert parents(stub, scoring.name) == [done.model_version, asked.dataset_commit]
    assert children(stub, scoring.name) == [scored.evaluation]


def test_jobs_of_a_code_come_by_pages_each_once(stub: Any, asked: pb.TrainingJob) -> None:  # noqa: F811
    asked.task_code = upload(stub, packed({"task.py": "# pages\n" + SOURCE})).name
    made = [create(stub, asked).name for _ in range(3)]
    request = pb.ListChildrenRequest(name=asked.task_code, page_size=2)

    first = stub.ListChildren(request)
    request.page_token = first.next_page_token
    second = stub.ListChildren(request)

    assert [*first.names, *second.names] == made
    assert second.next_page_token == ""
    request.name = asked.dataset_commit
    with pytest.raises(grpc.RpcError) as caught:
        stub.ListChildren(request)
    assert from_rpc_error(caught.value).reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("trainingJobs/nothing", "TRAINING_JOB_NOT_FOUND"),
        ("scoringJobs/nothing", "SCORING_JOB_NOT_FOUND"),
        ("taskCode/" + "0" * 64, "TASK_CODE_NOT_FOUND"),
        ("annotators/ann", "INVALID_FIELD"),
    ],
)
def test_what_is_not_there_has_no_lineage_and_the_reason_says_so(stub: Any, name: str, reason: str) -> None:
    for ask in (children, parents):
        with pytest.raises(grpc.RpcError) as caught:
            ask(stub, name)

        assert from_rpc_error(caught.value).reason == reason


def test_a_commit_that_nothing_was_trained_on_has_no_children_here(stub: Any) -> None:
    assert children(stub, "datasets/halves/commits/" + "0" * 64) == []


SOURCE = """
from slipway.task import Task
from torch import nn


class Halves(Task):
    def model(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
"""
