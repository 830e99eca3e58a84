"""Gates: policies, verdicts, overrides.

Whoever sets a policy, judges, overrides or points an alias holds the lock of the model's row, so that what a
verdict rests on (policy, champion, approved versions) does not move under it.
"""

from collections.abc import Sequence

from prometheus_client import Counter
from slipway_runtime.db import Database, PageToken, once, page_of, page_size
from slipway_runtime.errors import InvalidArgument, NotFound, Violation, near
from slipway_runtime.identity import current_caller, require_role

from slipway_registry.domain import MAX_TEXT, Version, VersionState, name_part
from slipway_registry.domain.evaluations import Evaluation
from slipway_registry.domain.gates import (
    MIN_REASON,
    Finding,
    GatePolicy,
    Judgement,
    NewVerdict,
    Outcome,
    Verdict,
    in_order,
    judgement_of,
)
from slipway_registry.domain.policies import Policy, parse
from slipway_registry.engine.gate import Case, findings
from slipway_registry.store import Store
from slipway_registry.usecases.evaluations import evaluation_named
from slipway_registry.usecases.models import model_named, version_named
from slipway_registry.usecases.runs import Repeat

VERDICTS = Counter("slipway_registry_verdicts_total", "Verdicts of gates.", ["verdict"])
OVERRIDES = Counter("slipway_registry_gate_overrides_total", "Gates that a person overrode.")
_SETS_POLICIES = frozenset({"admin", "engineer"})
_OVERRIDES = frozenset({"admin"})


class Gates:
    """The verbs over policies and verdicts."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def set_policy(self, parent: str, yaml: str, repeat: Repeat) -> GatePolicy:
        """Give a model its next policy; the same text again changes nothing.

        Raises:
            PermissionDenied: The caller is neither admin nor engineer.
            InvalidArgument: The policy has faults, each a violation (POLICY_REFUSED).
        """
        require_role(current_caller(), _SETS_POLICIES)
        (id,) = name_part(parent, "models", field_name="parent")
        policy = parse(yaml)
        with self._database.transaction() as connection:
            store = Store(connection)

            def effect() -> GatePolicy:
                model_named(store, id, lock=True)
                current = store.policy(id)
                if current is not None and current.yaml == yaml:
                    return current
                _check_attributes(policy, store.evaluated_attributes(id))
                return store.add_policy(id, yaml, current_caller().subject)

            return once(
                connection,
                request_id=repeat.request_id,
                method="SetGatePolicy",
                request=repeat.request,
                answer=GatePolicy,
                effect=effect,
            )

    def get_policy(self, name: str) -> GatePolicy:
        """Return the policy in force.

        Raises:
            NotFound: The model has none (GATE_POLICY_NOT_FOUND).
        """
        if not name.endswith("/gatePolicy"):
            raise InvalidArgument.field("name", f"is {name!r}; write models/{{model}}/gatePolicy")
        (id,) = name_part(name.removesuffix("/gatePolicy"), "models")
        with self._database.transaction() as connection:
            store = Store(connection)
            model_named(store, id)
            found = store.policy(id)
        if found is None:
            message = f"models/{id} has no gate policy, so its gate refuses every version; set one"
            raise NotFound("GATE_POLICY_NOT_FOUND", message, metadata={"name": name})
        return found

    def judge(self, name: str, evaluation: str, repeat: Repeat) -> Verdict:
        """Judge a version by its model's policy and keep the verdict; the version's state follows.

        Args:
            name: The version.
            evaluation: What to judge by; the newest when empty.
            repeat: Makes a repeat return the first answer.

        Raises:
            NotFound: There is no such version or evaluation.
        """
        with self._database.transaction() as connection:
            store = Store(connection)

            def effect() -> Verdict:
                version = version_named(store, name, lock=True)
                made = _judged(store, version, _evaluation_of(store, version, evaluation))
                return store.add_verdict(version, made, current_caller().subject)

            verdict = once(
                connection,
                request_id=repeat.request_id,
                method="JudgeModelVersion",
                request=repeat.request,
                answer=Verdict,
                effect=effect,
            )
        VERDICTS.labels(str(verdict.judgement)).inc()
        return verdict

    def override(self, name: str, judgement: Judgement | None, reason: str, repeat: Repeat) -> Verdict:
        """Approve or refuse a version against its gate; kept with who and why.

        Raises:
            PermissionDenied: The caller is no admin.
            InvalidArgument: The verdict is neither, or the reason is too short.
        """
        require_role(current_caller(), _OVERRIDES)
        why = reason.strip()
        if judgement not in (Judgement.APPROVED, Judgement.REFUSED):
            raise InvalidArgument.field("verdict", "is neither APPROVED nor REFUSED; a person decides")
        if not MIN_REASON <= len(why) <= MAX_TEXT or "\0" in why:
            text = f"has {len(why)} characters; say why in {MIN_REASON} to {MAX_TEXT}, no NUL"
            raise InvalidArgument.field("reason", text)
        with self._database.transaction() as connection:
            store = Store(connection)

            def effect() -> Verdict:
                version = version_named(store, name, lock=True)
                policy = store.policy(version.model)
                made = NewVerdict(
                    judgement, policy_version=policy.version if policy else 0, override_reason=why
                )
                return store.add_verdict(version, made, current_caller().subject)

            verdict = once(
                connection,
                request_id=repeat.request_id,
                method="OverrideGate",
                request=repeat.request,
                answer=Verdict,
                effect=effect,
            )
        OVERRIDES.inc()
        return verdict

    def get_verdict(self, name: str) -> Verdict:
        """Return one verdict.

        Raises:
            NotFound: The version has none of that number.
        """
        model, version, number = name_part(name, "models", "versions", "gateVerdicts")
        with self._database.transaction() as connection:
            store = Store(connection)
            judged = version_named(store, f"models/{model}/versions/{version}")
            right = number.isascii() and number.isdecimal() and len(number) < 10
            found = store.verdict(judged.model, judged.number, int(number)) if right else None
            known = [str(verdict.number) for verdict in store.verdicts(model, judged.number, None, 10)]
        if found is None:
            there = f"its verdicts: {', '.join(known)}" if known else "it was not judged yet"
            raise NotFound(
                "GATE_VERDICT_NOT_FOUND",
                f"{judged.name} has no verdict {number!r}; {there}",
                metadata={"name": number, "near": ", ".join(known)},
            )
        return found

    def list_verdicts(self, parent: str, size: int, token: str) -> tuple[Sequence[Verdict], str]:
        """Return a page of verdicts, newest first; overrides too."""
        limit, tokens = page_size(size), PageToken(("verdicts", parent), (int,))
        before = tokens.decode(token)
        with self._database.transaction() as connection:
            store = Store(connection)
            version = version_named(store, parent, "parent")
            number = int(before[0]) if before else None
            rows = store.verdicts(version.model, version.number, number, limit + 1)
        page = page_of(rows, limit)
        return page, tokens.encode(page[-1].number) if len(rows) > len(page) else ""


def _check_attributes(policy: Policy, known: list[str] | None) -> None:
    """Refuse a slice that none of the model's evaluations has; without evaluations nothing can be said."""
    wanted = policy.regression.attributes if policy.regression else ()
    faults = []
    for index, name in enumerate(wanted):
        if known is not None and name not in known:
            matches = near(name, known)
            hint = f"did you mean {matches[0]!r}" if matches else f"they have {', '.join(known) or 'none'}"
            text = f"is {name!r}, by which no evaluation of the model has slices; {hint}"
            faults.append(Violation(f"yaml.regression.attributes[{index}]", text))
    if faults:
        told = "; ".join(f"{fault.field}: {fault.description}" for fault in faults)
        raise InvalidArgument("POLICY_REFUSED", told, violations=faults)


def _evaluation_of(store: Store, version: Version, name: str) -> Evaluation | None:
    if not name:
        newest = store.evaluations(version.model, version.number, None, 1)
        return newest[0][1] if newest else None
    found = evaluation_named(store, name, "evaluation")
    if found.header.parent != version.name:
        raise InvalidArgument.field("evaluation", f"is {name!r}, of another version than {version.name}")
    return found


def _judged(store: Store, version: Version, evaluation: Evaluation | None) -> NewVerdict:
    current = store.policy(version.model)
    if current is None:
        text = f"models/{version.model} has no gate policy, so nothing is approved; set one, then judge again"
        return NewVerdict(Judgement.REFUSED, (Finding("policy", Outcome.FAILED, text),))
    policy = parse(current.yaml)
    alias = store.alias(version.model, policy.alias)
    champion = alias.model_version if alias else ""
    if evaluation is None:
        split = policy.evaluation.split
        text = f"{version.name} has no evaluation; evaluate it on split {split!r}, then judge again"
        found = (Finding("evaluation", Outcome.FAILED, text),)
        return NewVerdict(Judgement.REFUSED, found, current.version, champion_version=champion)
    approved = store.versions(version.model, None, 2, [VersionState.APPROVED])
    others = any(other.number != version.number for other in approved)
    checks = findings(Case(version, policy, evaluation, champion, others))
    return NewVerdict(judgement_of(checks), in_order(checks), current.version, evaluation.name, champion)
