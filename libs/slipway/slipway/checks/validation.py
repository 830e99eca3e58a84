"""Is a version good enough? It is evaluated on labelled examples and judged by its model's policy."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from slipway.checks.budget import Step, run_steps
from slipway.checks.report import Check, Outcome, Report, expected
from slipway.client import Client, SlipwayError
from slipway.registry.v1 import registry_pb2 as reg
from slipway.training.v1 import training_pb2 as trn

DEFAULT_SPLIT = "test"  # of a policy that names none (docs/gates.md)
_OUTCOMES: dict[int, Outcome] = {
    reg.GateFinding.PASSED: "passed",
    reg.GateFinding.FAILED: "failed",
    reg.GateFinding.UNDECIDED: "failed",
}


def validation(
    client: Client,
    version: str,
    *,
    budget_s: float = 3600.0,
    commit: str = "",
    split: str | None = None,
    champion: str | None = None,
    began: Callable[[str], None] = lambda name: None,
) -> Report:
    """Evaluate a version and judge it; it passes only when the verdict is APPROVED.

    Args:
        client: Of the platform that has the version.
        version: `models/{m}/versions/{n}`; `…/versions/latest` for the newest.
        budget_s: Seconds it may take; a job that is still at work then is cancelled.
        commit: To evaluate on; default: the one that the version was trained on.
        split: Of the commit, empty for all; default: the one that the policy judges by.
        champion: Version beside it, empty for none; default: what the policy's alias names.
        began: Told each step's name as it begins.

    Raises:
        SlipwayError: There is no such version.
    """
    found: Any = client.registry.GetModelVersion(reg.GetModelVersionRequest(name=version))
    report = Report("validation", found.name, budget_s)
    trial = _Trial(client, found, commit or found.dataset_commit, split, champion)
    steps = [
        Step("policy", trial.read_policy, needed=True),
        Step("evaluation", trial.evaluate, needed=True, undo=trial.cancel),
        Step("verdict", trial.judge),
    ]
    return run_steps(report, steps, began=began)


class _Trial:
    """One evaluation with its verdict.

    Args:
        client: Of the platform.
        version: That is tested.
        commit: To evaluate on.
        split: Of the commit; None for the policy's.
        champion: Beside it; None for what the policy's alias names.
    """

    def __init__(
        self, client: Client, version: Any, commit: str, split: str | None, champion: str | None
    ) -> None:
        self._client = client
        self._version = version
        self._commit = commit
        self._split = split
        self._champion = champion
        self._job = ""
        self._cut_off = False
        self._evaluation = ""

    def read_policy(self) -> Sequence[Check]:
        model = self._version.name.partition("/versions/")[0]
        policy = self._client.registry.GetGatePolicy(reg.GetGatePolicyRequest(name=f"{model}/gatePolicy"))
        rules = yaml.safe_load(policy.yaml) or {}
        if self._split is None:
            self._split = str((rules.get("evaluation") or {}).get("split", DEFAULT_SPLIT))
        if self._champion is None:
            self._champion = champion_of(self._client, model, rules)
        return [Check("policy", "passed", f"version {policy.version}", "a gate policy is set")]

    def evaluate(self) -> Sequence[Check]:
        begun = time.monotonic()
        job = self._client.evaluate(
            self._version.name, self._commit, split=self._split or "", champion=self._champion or ""
        )
        self._job = job.name
        if self._cut_off:
            self.cancel()
        *_, job = self._client.watch_scoring_job(job.name)
        self._evaluation = job.evaluation
        state = trn.TrainingJob.State.Name(job.state)
        beside = f" beside {self._champion}" if self._champion else ", no champion"
        text = f"{job.name} is {state}: {job.error}"
        check = expected("evaluation", state, "SUCCEEDED", text)
        value = f"{job.done_count} examples in {time.monotonic() - begun:.1f} s{beside}"
        return [check if check.outcome == "failed" else Check("evaluation", "passed", value, "SUCCEEDED")]

    def cancel(self) -> None:
        self._cut_off = True  # a job that is being asked for right now is cancelled when it has a name
        if self._job:
            self._client.training.CancelScoringJob(trn.CancelScoringJobRequest(name=self._job))

    def judge(self) -> Sequence[Check]:
        request = reg.JudgeModelVersionRequest(name=self._version.name, evaluation=self._evaluation)
        verdict: Any = self._client.registry.JudgeModelVersion(request)
        said = reg.GateVerdict.Verdict.Name(verdict.verdict)
        why = "; ".join(f.message for f in verdict.findings if f.outcome != reg.GateFinding.PASSED)
        return [expected("verdict", said, "APPROVED", why), *map(finding_check, verdict.findings)]


def finding_check(finding: Any) -> Check:
    """Return a gate's finding as a check; what is undecided does not pass."""
    outcome = _OUTCOMES.get(finding.outcome, "failed")
    message = "" if outcome == "passed" else finding.message
    return Check(finding_name(finding), outcome, finding.value, finding.bound, message)


def finding_name(finding: Any) -> str:
    """Return what a finding is about: gate, metric, slice."""
    metric = "" if finding.metric == finding.gate else finding.metric
    return " ".join(part for part in (finding.gate, metric, finding.slice) if part)


def champion_of(client: Client, model: str, rules: dict[str, Any]) -> str:
    """Return the version that a policy compares with, by its alias; empty when nothing is named so yet."""
    alias = str((rules.get("regression") or {}).get("alias", "champion"))
    try:
        found: Any = client.registry.GetAlias(reg.GetAliasRequest(name=f"{model}/aliases/{alias}"))
    except SlipwayError as error:
        if error.reason != "ALIAS_NOT_FOUND":
            raise
        return ""
    return str(found.model_version)


__all__ = ["champion_of", "finding_check", "finding_name", "validation"]
