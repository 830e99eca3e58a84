"""Methods over policies, verdicts, aliases and lineage."""

from typing import Any

from slipway.registry.v1 import registry_pb2 as pb
from slipway_runtime.errors import InvalidArgument
from slipway_runtime.rpc import timestamp

from slipway_registry.api.messages import repeat_of
from slipway_registry.domain.gates import Alias, Finding, GatePolicy, Judgement, Verdict
from slipway_registry.usecases.aliases import Aliases
from slipway_registry.usecases.gates import Gates
from slipway_registry.usecases.lineage import Lineage


class GateMethods:
    """What must be true of a version, what was said of it, which names it has, and what it came of."""

    _gates: Gates
    _aliases: Aliases
    _lineage: Lineage

    def SetGatePolicy(self, request: pb.SetGatePolicyRequest, context: Any) -> pb.GatePolicy:
        return _policy(self._gates.set_policy(request.parent, request.yaml, repeat_of(request)))

    def GetGatePolicy(self, request: pb.GetGatePolicyRequest, context: Any) -> pb.GatePolicy:
        return _policy(self._gates.get_policy(request.name))

    def JudgeModelVersion(self, request: pb.JudgeModelVersionRequest, context: Any) -> pb.GateVerdict:
        return _verdict(self._gates.judge(request.name, request.evaluation, repeat_of(request)))

    def GetGateVerdict(self, request: pb.GetGateVerdictRequest, context: Any) -> pb.GateVerdict:
        return _verdict(self._gates.get_verdict(request.name))

    def ListGateVerdicts(self, request: Any, context: Any) -> pb.ListGateVerdictsResponse:
        found, token = self._gates.list_verdicts(request.parent, request.page_size, request.page_token)
        return pb.ListGateVerdictsResponse(gate_verdicts=map(_verdict, found), next_page_token=token)

    def OverrideGate(self, request: pb.OverrideGateRequest, context: Any) -> pb.GateVerdict:
        judgement = _judgement(request.verdict)
        return _verdict(self._gates.override(request.name, judgement, request.reason, repeat_of(request)))

    def SetAlias(self, request: pb.SetAliasRequest, context: Any) -> pb.Alias:
        version, expected = request.model_version, request.expected_version
        return _alias(self._aliases.set(request.name, version, expected, repeat_of(request)))

    def GetAlias(self, request: pb.GetAliasRequest, context: Any) -> pb.Alias:
        return _alias(self._aliases.get(request.name))

    def ListAliases(self, request: pb.ListAliasesRequest, context: Any) -> pb.ListAliasesResponse:
        found, token = self._aliases.list(request.parent, request.page_size, request.page_token)
        return pb.ListAliasesResponse(aliases=map(_alias, found), next_page_token=token)

    def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Any) -> pb.Alias:
        return _alias(self._aliases.delete(request.name, repeat_of(request)))

    def ListChildren(self, request: pb.ListChildrenRequest, context: Any) -> pb.ListChildrenResponse:
        names, token = self._lineage.children(request.name, request.page_size, request.page_token)
        return pb.ListChildrenResponse(names=names, next_page_token=token)

    def ListParents(self, request: pb.ListParentsRequest, context: Any) -> pb.ListParentsResponse:
        names, token = self._lineage.parents(request.name, request.page_size, request.page_token)
        return pb.ListParentsResponse(names=names, next_page_token=token)


def _judgement(verdict: int) -> Judgement:
    if verdict not in pb.GateVerdict.Verdict.values()[1:]:
        raise InvalidArgument.field("verdict", "is not set; give APPROVED or REFUSED")
    return Judgement(pb.GateVerdict.Verdict.Name(verdict))


def _policy(policy: GatePolicy) -> pb.GatePolicy:
    return pb.GatePolicy(
        name=policy.name,
        version=policy.version,
        yaml=policy.yaml,
        create_time=timestamp(policy.create_time),
        creator=policy.creator,
    )


def _verdict(verdict: Verdict) -> pb.GateVerdict:
    return pb.GateVerdict(
        name=verdict.name,
        verdict=str(verdict.judgement),
        findings=map(_finding, verdict.findings),
        policy_version=verdict.policy_version,
        evaluation=verdict.evaluation,
        champion_version=verdict.champion_version,
        override=verdict.override,
        override_reason=verdict.override_reason,
        creator=verdict.creator,
        create_time=timestamp(verdict.create_time),
    )


def _finding(finding: Finding) -> pb.GateFinding:
    return pb.GateFinding(
        gate=finding.gate,
        metric=finding.metric,
        slice=finding.slice,
        outcome=str(finding.outcome),
        value=finding.value,
        bound=finding.bound,
        example_count=finding.example_count,
        p_value=finding.p_value,
        message=finding.message,
    )


def _alias(alias: Alias) -> pb.Alias:
    return pb.Alias(
        name=alias.name,
        model_version=alias.model_version,
        update_time=timestamp(alias.update_time),
        updater=alias.updater,
    )
