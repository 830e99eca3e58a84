"""A run trained again from its record, and the two bundles compared member by member."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from slipway.client.errors import SlipwayError
from slipway.registry.v1 import registry_pb2 as reg
from slipway.training.v1 import training_pb2 as trn

_SUFFIX = "-reproduced"
_MAX_ID = 63


@dataclass(frozen=True)
class Member:
    """One file of the bundles, with its BLAKE3 in each; empty where a bundle lacks it."""

    file: str
    recorded: str
    repeated: str

    @property
    def equal(self) -> bool:
        """Whether both bundles have the same bytes."""
        return self.recorded == self.repeated


@dataclass(frozen=True)
class Reproduction:
    """What came of training again.

    Attributes:
        run: The run of the record.
        repeated_run: The run made from it.
        version: Version of the record.
        repeated_version: Version made again, of a model of its own.
        bundle: `bundles/{digest}` of the record.
        repeated_bundle: `bundles/{digest}` made again.
        files: Every file of either bundle, by name.
        conditions: What was not the same around the two, by name: value in the record, value now.
    """

    run: str
    repeated_run: str
    version: str
    repeated_version: str
    bundle: str
    repeated_bundle: str
    files: tuple[Member, ...]
    conditions: Mapping[str, tuple[str, str]]

    @property
    def equal(self) -> bool:
        """Whether every member is."""
        return self.bundle == self.repeated_bundle

    def why(self) -> str:
        """Return what may have made the members differ; nothing when they are equal."""
        if self.equal:
            return ""
        if self.conditions:
            told = ", ".join(
                f"{name} {before or 'none'} → {now or 'none'}"
                for name, (before, now) in sorted(self.conditions.items())
            )
            return f"what differs around them: {told}; other releases or thread counts add in another order"
        return (
            "packages, threads and processor are recorded as the same: the task draws from something that "
            "the seed does not reach (time, files, an unordered set), or the platform's release is another"
        )


def record_of(client: Any, run: str) -> Any:
    """Return the training job that made a run: code, entry point, commit, hyperparameters, seed.

    Raises:
        SlipwayError: There is no such run, no job made it, or it ended without a version.
    """
    found = client.registry.GetRun(reg.GetRunRequest(name=run))
    if not found.job:
        raise _refused(f"{run} was recorded without a training job, so that nothing says how to train it")
    job = client.training.GetTrainingJob(trn.GetTrainingJobRequest(name=found.job))
    if not job.model_version:
        state = trn.TrainingJob.State.Name(job.state)
        raise _refused(f"{run}: {job.name} is {state} without a version to compare with; name another run")
    return job


def train_again(client: Any, record: Any, model: str = "") -> Any:
    """Queue a training of the record's own stored code; the version goes to a model of its own.

    Args:
        client: The platform.
        record: As `record_of` gives it.
        model: `models/{model}` that gets the version; default: the record's, with `-reproduced` behind it,
            so that the newest version of the model stays what it is.
    """
    job = trn.TrainingJob(
        display_name=f"{record.run.rpartition('/')[2][:12]} again",
        experiment=record.experiment,
        model=model or _beside(record.model),
        dataset_commit=record.dataset_commit,
        task_code=record.task_code,
        entry_point=record.entry_point,
        hyperparameters=record.hyperparameters,
        seed=record.seed,
        max_attempts=record.max_attempts,
    )
    return client.training.CreateTrainingJob(trn.CreateTrainingJobRequest(training_job=job))


def compare(client: Any, record: Any, repeated: Any) -> Reproduction:
    """Compare the bundles of two training jobs that succeeded."""
    versions = [_version(client, job.model_version) for job in (record, repeated)]
    bundles = [client.registry.GetBundle(reg.GetBundleRequest(name=v.bundle)) for v in versions]
    digests = [{file.name: file.blake3 for file in bundle.files} for bundle in bundles]
    names = sorted(set().union(*digests) - {"manifest.json"})
    files = (Member(file, digests[0].get(file, ""), digests[1].get(file, "")) for file in names)
    return Reproduction(
        run=record.run,
        repeated_run=repeated.run,
        version=record.model_version,
        repeated_version=repeated.model_version,
        bundle=versions[0].bundle,
        repeated_bundle=versions[1].bundle,
        files=tuple(files),
        conditions=_differing(*(_conditions(bundle) for bundle in bundles)),
    )


def _version(client: Any, name: str) -> Any:
    return client.registry.GetModelVersion(reg.GetModelVersionRequest(name=name))


def _conditions(bundle: Any) -> dict[str, str]:
    manifest = json_format.MessageToDict(bundle.manifest)
    told = {**manifest.get("environment", {}), **manifest.get("computed_on", {})}
    return {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in told.items()}


def _differing(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    names = before.keys() | now.keys()
    pairs = {name: (before.get(name, ""), now.get(name, "")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _beside(model: str) -> str:
    collection, _, id = model.partition("/")
    return f"{collection}/{id.removesuffix(_SUFFIX)[: _MAX_ID - len(_SUFFIX)].rstrip('-')}{_SUFFIX}"


def _refused(message: str) -> SlipwayError:
    return SlipwayError("FAILED_PRECONDITION", "NOTHING_TO_REPRODUCE", message)


__all__ = ["Member", "Reproduction", "compare", "record_of", "train_again"]
