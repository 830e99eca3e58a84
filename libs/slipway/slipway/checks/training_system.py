"""Does training still give what it gave? A version is trained again from its raw data, and compared."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slipway.checks.budget import Step, run_steps
from slipway.checks.report import Check, Report, expected
from slipway.client import Client
from slipway.registry.v1 import registry_pb2 as reg
from slipway.training.v1 import training_pb2 as trn

TOLERANCE = 0.02
_WEIGHTS = "weights.safetensors"


def training_system(
    client: Client,
    version: str,
    *,
    budget_s: float = 86_400.0,
    tolerance: float = TOLERANCE,
    model: str = "",
    began: Callable[[str], None] = lambda name: None,
) -> Report:
    """Train again with the same code, commit, hyperparameters and seed; compare what comes out.

    Args:
        client: Of the platform that has the version.
        version: `models/{m}/versions/{n}`; `…/versions/latest` for the newest.
        budget_s: Seconds it may take; a job that is still at work then is cancelled.
        tolerance: Largest difference of a metric, relative where the metric is above 1.
        model: Model that gets the version made; default: the version's with `-training-test` behind it, so
            that the line of versions that people use stays as it is.
        began: Told each step's name as it begins.

    Raises:
        SlipwayError: There is no such version.
    """
    found: Any = client.registry.GetModelVersion(reg.GetModelVersionRequest(name=version))
    report = Report("training-system", found.name, budget_s)
    into = model or f"{found.name.split('/')[1]}-training-test"
    trial = _Trial(client, found, into.removeprefix("models/"))
    steps = [
        Step("inputs", trial.find_inputs, needed=True),
        Step("training", trial.train, needed=True, undo=trial.cancel),
        Step("metrics", lambda: trial.compare(tolerance)),
        Step("weights", trial.compare_weights),
    ]
    return run_steps(report, steps, began=began)


class _Trial:
    """One training beside the one that made the version.

    Args:
        client: Of the platform.
        version: That was trained before.
        model: Id of the model that gets the new one.
    """

    def __init__(self, client: Client, version: Any, model: str) -> None:
        self._client = client
        self._version = version
        self._model = model
        self._before: Any = None
        self._job = ""
        self._cut_off = False
        self._again: Any = None

    def find_inputs(self) -> Sequence[Check]:
        run: Any = self._client.registry.GetRun(reg.GetRunRequest(name=self._version.run))
        self._before = self._client.training.GetTrainingJob(trn.GetTrainingJobRequest(name=run.job))
        code = f"{self._before.task_code[:21]}… {self._before.entry_point} seed {self._before.seed}"
        return [Check("inputs", "passed", code, "code, commit, hyperparameters and seed are known")]

    def train(self) -> Sequence[Check]:
        before = self._before
        job = trn.TrainingJob(
            display_name=f"training test of {self._version.name}",
            experiment=f"experiments/{self._model}",
            model=f"models/{self._model}",
            dataset_commit=before.dataset_commit,
            task_code=before.task_code,
            entry_point=before.entry_point,
            hyperparameters=before.hyperparameters,
            seed=before.seed,
        )
        made = self._client.training.CreateTrainingJob(trn.CreateTrainingJobRequest(training_job=job))
        self._job = made.name
        if self._cut_off:
            self.cancel()
        *_, made = self._client.watch(made.name)
        state = trn.TrainingJob.State.Name(made.state)
        if made.state != trn.TrainingJob.SUCCEEDED:
            return [expected("training", state, "SUCCEEDED", f"{made.name} is {state}: {made.error}")]
        request = reg.GetModelVersionRequest(name=made.model_version)
        self._again = self._client.registry.GetModelVersion(request)
        return [Check("training", "passed", made.model_version, "SUCCEEDED")]

    def cancel(self) -> None:
        self._cut_off = True  # a job that is being asked for right now is cancelled when it has a name
        if self._job:
            self._client.training.CancelTrainingJob(trn.CancelTrainingJobRequest(name=self._job))

    def compare(self, tolerance: float) -> Sequence[Check]:
        before, again = self._version.evaluation, self._again.evaluation
        counts = str(before.example_count), str(again.example_count)
        said = f"it was measured on {counts[0]} examples, and now on {counts[1]}"
        classes = ", ".join(again.classes), ", ".join(before.classes)
        return [
            expected("held-out examples", counts[1], counts[0], said),
            expected("classes", *classes, "the classes are others"),
            *metric_checks(before.metrics, again.metrics, tolerance),
        ]

    def compare_weights(self) -> Sequence[Check]:
        """Equal weights are said, not asked for: threads and hosts change the last bits of sums."""
        digests = [self._weights(version.bundle) for version in (self._version, self._again)]
        equal = "equal to the last bit" if digests[0] == digests[1] else "differ"
        return [Check("weights", "passed", f"{equal} ({digests[1][:12]})", digests[0][:12])]

    def _weights(self, bundle: str) -> str:
        found: Any = self._client.registry.GetBundle(reg.GetBundleRequest(name=bundle))
        return next((str(file.blake3) for file in found.files if file.name == _WEIGHTS), "none")


def metric_checks(before: Mapping[str, float], again: Mapping[str, float], tolerance: float) -> list[Check]:
    """Return a check for each metric of either side; one that is missing on a side fails."""
    checks = []
    for name in sorted(before.keys() | again.keys()):
        if name not in before or name not in again:
            side = "again" if name in before else "before"
            checks.append(Check(f"metric {name}", "failed", "", "", f"{name} was not measured {side}"))
            continue
        allowed = tolerance * max(1.0, abs(before[name]))
        good = abs(again[name] - before[name]) <= allowed
        bound = f"{before[name]:.4g} ± {allowed:.2g}"
        text = f"{name} was {before[name]:.4g} and is {again[name]:.4g}; {bound} is allowed"
        outcome = Check(f"metric {name}", "passed" if good else "failed", again[name], bound)
        checks.append(outcome if good else Check(f"metric {name}", "failed", again[name], bound, text))
    return checks


__all__ = ["TOLERANCE", "metric_checks", "training_system"]
