"""What callers may rely on in gates: evaluations, policies, verdicts, overrides, aliases, lineage."""

import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from running import Keys, Service

sys.path.insert(0, str(Path(__file__).parent))

import bundles
from slipway.registry.v1 import registry_pb2 as pb
from slipway.registry.v1 import registry_pb2_grpc
from slipway_runtime.errors import SlipwayError
from slipway_runtime.rpc import from_rpc_error

COMMIT = "datasets/flowers/commits/" + "ab" * 32
LABELS = np.arange(300) % 3
GOOD = np.random.default_rng(0).random(300) < 0.95
POLICY = """
evaluation: {minimum_examples: 200}
thresholds: {accuracy: {min: 0.8}}
regression: {attributes: [scanner]}
latency: {max_ratio: 1.5}
"""


@pytest.fixture(scope="module")
def stub(registry: Service, keys: Keys) -> Iterator[Any]:
    with registry.channel(keys.user("ann")) as opened:
        yield registry_pb2_grpc.RegistryServiceStub(opened)


@pytest.fixture(scope="module")
def admin(registry: Service, keys: Keys) -> Iterator[Any]:
    with registry.channel(keys.user("root", "admin")) as opened:
        yield registry_pb2_grpc.RegistryServiceStub(opened)


@pytest.fixture(scope="module")
def bundle(stub: Any) -> str:
    return str(bundles.upload(stub, *bundles.with_manifest(bundles.files())).name)


@pytest.fixture
def model(stub: Any, bundle: str) -> str:
    """Return a model with a policy and two versions, not yet evaluated."""
    name = bare_model(stub)
    stub.SetGatePolicy(pb.SetGatePolicyRequest(parent=name, yaml=POLICY))
    for _ in range(2):
        add_version(stub, name, bundle)
    return name


def bare_model(stub: Any) -> str:
    return str(stub.CreateModel(pb.CreateModelRequest(model_id=f"g-{uuid.uuid4().hex[:12]}")).name)


def add_version(stub: Any, model: str, bundle: str) -> Any:
    id = f"x-{uuid.uuid4().hex[:12]}"
    experiment = stub.CreateExperiment(pb.CreateExperimentRequest(experiment_id=id)).name
    run = pb.Run(dataset_commit=COMMIT, code_digest="taskCode/" + "cd" * 32, job="trainingJobs/j1")
    made = stub.CreateRun(pb.CreateRunRequest(parent=experiment, run=run)).name
    version = pb.ModelVersion(run=made, bundle=bundle)
    return stub.CreateModelVersion(pb.CreateModelVersionRequest(parent=model, model_version=version))


def said(right: bool, label: int) -> list[float]:
    return [0.9 if column == (label if right else (label + 1) % 3) else 0.05 for column in range(3)]


def evaluate(
    stub: Any, version: str, mine: Any, champion: str = "", theirs: Any = None, id: str = "e", **fields: Any
) -> Any:
    """Record an evaluation; answers are right where `mine` (and for the champion `theirs`) says so."""
    header = pb.EvaluationHeader(
        parent=version,
        evaluation_id=id,
        dataset_commit=COMMIT,
        split="test",
        classes=bundles.CLASSES,
        **fields,
    )
    if champion:
        header.champion_version = champion
        header.champion_classes.extend(bundles.CLASSES)
        header.latency_ms.extend([1.0, 1.1, 1.1, 1.1, 1.2])
        header.champion_latency_ms.extend([1.0] * 5)
    rows = [
        pb.EvaluatedExample(
            key=f"{row:04}.png",
            label=bundles.CLASSES[label],
            probabilities=said(mine[row], label),
            champion_probabilities=said(theirs[row], label) if champion else [],
            attributes={"scanner": "ab"[row // 3 % 2]},
        )
        for row, label in enumerate(LABELS)
    ]
    parts = (rows[start : start + 100] for start in range(0, len(rows), 100))
    requests = [pb.RecordEvaluationRequest(header=header)]
    requests += [pb.RecordEvaluationRequest(examples=pb.EvaluatedExamples(examples=part)) for part in parts]
    return stub.RecordEvaluation(iter(requests), timeout=60)


def judge(stub: Any, version: str, **fields: Any) -> Any:
    return stub.JudgeModelVersion(pb.JudgeModelVersionRequest(name=version, **fields), timeout=60)


def champion_of(stub: Any, model: str) -> str:
    """Have the first version approved and made the champion."""
    first = f"{model}/versions/1"
    evaluate(stub, first, GOOD)
    assert judge(stub, first).verdict == pb.GateVerdict.APPROVED
    stub.SetAlias(pb.SetAliasRequest(name=f"{model}/aliases/champion", model_version=first))
    return first


def refusal(call: Any) -> SlipwayError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value)


def get(stub: Any, version: str) -> Any:
    return stub.GetModelVersion(pb.GetModelVersionRequest(name=version))


def test_the_first_version_is_approved_becomes_champion_and_shows_it(stub: Any, model: str) -> None:
    first = champion_of(stub, model)

    found = get(stub, first)

    assert (found.state, found.gated, list(found.aliases)) == (pb.ModelVersion.APPROVED, True, ["champion"])
    verdict = stub.GetGateVerdict(pb.GetGateVerdictRequest(name=found.gate_verdict))
    assert (verdict.verdict, verdict.policy_version, verdict.creator) == (
        pb.GateVerdict.APPROVED,
        1,
        "users/ann",
    )
    assert any("is the first" in finding.message for finding in verdict.findings)
    assert verdict.evaluation == f"{first}/evaluations/e"


def test_a_version_worse_on_one_class_alone_is_refused_and_the_slice_is_named(stub: Any, model: str) -> None:
    first, second = champion_of(stub, model), f"{model}/versions/2"
    mine = GOOD.copy()
    mine[np.flatnonzero(GOOD & (LABELS == 1))[:12]] = False
    made = evaluate(stub, second, mine, champion=first, theirs=GOOD)

    verdict = judge(stub, second)

    assert verdict.verdict == pb.GateVerdict.REFUSED
    failed = {f.slice for f in verdict.findings if f.outcome == pb.GateFinding.FAILED}
    assert "label=b" in failed
    assert not failed & {"label=a", "label=c"}
    assert verdict.findings[0].outcome == pb.GateFinding.FAILED
    lost = next(part for part in made.slices if part.slice == "label=b")
    assert (lost.lost_count, lost.won_count, lost.example_count) == (12, 0, 100)
    assert get(stub, second).state == pb.ModelVersion.REFUSED


def test_a_version_inside_the_noise_is_approved(stub: Any, model: str) -> None:
    first, second = champion_of(stub, model), f"{model}/versions/2"
    mine = np.random.default_rng(5).random(300) < 0.95
    made = evaluate(stub, second, mine, champion=first, theirs=GOOD)

    verdict = judge(stub, second)

    assert verdict.verdict == pb.GateVerdict.APPROVED
    assert verdict.champion_version == first
    assert (made.latency_ratio, made.latency_ratio_low, made.latency_ratio_high) == (1.1, 1.0, 1.2)


def test_without_policy_or_evaluation_a_version_is_refused(stub: Any, model: str, bundle: str) -> None:
    ungated = add_version(stub, bare_model(stub), bundle).name

    bare, unseen = judge(stub, ungated), judge(stub, f"{model}/versions/1")

    assert (bare.verdict, bare.findings[0].gate, bare.policy_version) == (pb.GateVerdict.REFUSED, "policy", 0)
    assert (unseen.verdict, unseen.findings[0].gate) == (pb.GateVerdict.REFUSED, "evaluation")
    assert (get(stub, ungated).gated, get(stub, ungated).state) == (False, pb.ModelVersion.REFUSED)
    wanted = pb.GetGatePolicyRequest(name=f"{ungated.partition('/versions')[0]}/gatePolicy")
    assert refusal(lambda: stub.GetGatePolicy(wanted)).reason == "GATE_POLICY_NOT_FOUND"


def test_an_evaluation_beside_a_former_champion_is_refused_with_a_remedy(
    stub: Any, admin: Any, model: str
) -> None:
    first, second = champion_of(stub, model), f"{model}/versions/2"
    evaluate(stub, second, GOOD)

    verdict = judge(stub, second)

    (told,) = (f for f in verdict.findings if f.outcome == pb.GateFinding.FAILED)
    assert (verdict.verdict, told.gate) == (pb.GateVerdict.REFUSED, "evaluation")
    assert f"alias 'champion' names {first} now; evaluate again beside that" in told.message


def test_too_few_examples_are_inconclusive_and_say_how_many_are_missing(stub: Any, model: str) -> None:
    first = f"{model}/versions/1"
    evaluate(stub, first, GOOD)
    yaml = "evaluation: {minimum_examples: 400}\nthresholds: {accuracy: {min: 0.5}}"
    assert stub.SetGatePolicy(pb.SetGatePolicyRequest(parent=model, yaml=yaml)).version == 2

    verdict = judge(stub, first)

    assert (verdict.verdict, verdict.policy_version) == (pb.GateVerdict.INCONCLUSIVE, 2)
    assert "100 more are needed" in verdict.findings[0].message
    assert get(stub, first).state == pb.ModelVersion.INCONCLUSIVE


@pytest.mark.parametrize(
    ("yaml", "field", "meant"),
    [
        ("thresholds: {acuracy: {min: 0.9}}", "yaml.thresholds.acuracy", "did you mean 'accuracy'"),
        ("thresholds: {accuracy: {min: 0.9}}\ncalibraton: {max_ece: 1}", "yaml.calibraton", "'calibration'"),
        (
            "thresholds: {accuracy: {min: 0.9}}\nregression: {attributes: [scaner]}",
            "yaml.regression.attributes[0]",
            "did you mean 'scanner'",
        ),
    ],
)
def test_a_policy_with_an_unknown_metric_key_or_slice_is_refused_by_name(
    stub: Any, model: str, yaml: str, field: str, meant: str
) -> None:
    evaluate(stub, f"{model}/versions/1", GOOD)

    refused = refusal(lambda: stub.SetGatePolicy(pb.SetGatePolicyRequest(parent=model, yaml=yaml)))

    assert refused.reason == "POLICY_REFUSED"
    assert [(fault.field, meant in fault.description) for fault in refused.violations] == [(field, True)]
    assert stub.GetGatePolicy(pb.GetGatePolicyRequest(name=f"{model}/gatePolicy")).yaml == POLICY


def test_a_damaged_evaluation_is_refused_and_leaves_nothing(stub: Any, model: str) -> None:
    header = pb.RecordEvaluationRequest(
        header=pb.EvaluationHeader(
            parent=f"{model}/versions/1", evaluation_id="d", dataset_commit=COMMIT, classes=bundles.CLASSES
        )
    )
    row = pb.EvaluatedExample(key="a", label="b", probabilities=[0.2, 0.3, 0.5])
    doubled = pb.RecordEvaluationRequest(examples=pb.EvaluatedExamples(examples=[row, row]))
    many = pb.RecordEvaluationRequest(examples=pb.EvaluatedExamples(examples=[row] * 1001))

    refused = [
        refusal(lambda sent=sent: stub.RecordEvaluation(iter(sent)))
        for sent in ([header], [header, header], [doubled], [header, doubled], [header, many])
    ]
    nothing = refusal(lambda: stub.RecordEvaluation(iter([])))

    assert {error.reason for error in refused} == {"EVALUATION_REFUSED"}
    assert "examples[1].key" in refused[3].message
    assert nothing.reason == "UNFINISHED_STREAM"
    listed = stub.ListVersionEvaluations(pb.ListVersionEvaluationsRequest(parent=f"{model}/versions/1"))
    assert not listed.evaluations


def test_a_repeated_evaluation_is_the_first_and_other_content_is_refused(stub: Any, model: str) -> None:
    first = f"{model}/versions/1"
    made = evaluate(stub, first, GOOD)

    assert evaluate(stub, first, GOOD) == made
    assert refusal(lambda: evaluate(stub, first, ~GOOD)).reason == "ALREADY_EXISTS"
    assert stub.GetVersionEvaluation(pb.GetVersionEvaluationRequest(name=made.name)) == made


def test_curves_and_pictures_come_back(stub: Any, model: str) -> None:
    made = evaluate(stub, f"{model}/versions/1", GOOD)

    for picture in made.pictures:
        answer = stub.GetEvaluationPicture(pb.GetEvaluationPictureRequest(name=made.name, picture=picture))
        assert (answer.media_type, answer.data[:4]) == ("image/png", b"\x89PNG")

    assert list(made.pictures) == ["confusion", "roc", "precision_recall", "calibration"]
    assert {curve.kind for curve in made.curves} == {"roc", "precision_recall", "calibration"}
    other = pb.GetEvaluationPictureRequest(name=made.name, picture="roc_curve")
    assert refusal(lambda: stub.GetEvaluationPicture(other)).reason == "PICTURE_NOT_FOUND"


def test_an_admin_overrides_with_a_reason_and_nobody_else_does(stub: Any, admin: Any, model: str) -> None:
    first = f"{model}/versions/1"
    judge(stub, first)
    request = pb.OverrideGateRequest(
        name=first, verdict=pb.GateVerdict.APPROVED, reason="checked by hand", request_id=uuid.uuid4().hex
    )

    assert refusal(lambda: stub.OverrideGate(request)).reason == "ROLE_MISSING"
    short = pb.OverrideGateRequest(name=first, verdict=pb.GateVerdict.APPROVED, reason="   ok    ")
    assert refusal(lambda: admin.OverrideGate(short)).violations[0].field == "reason"
    unset = pb.OverrideGateRequest(name=first, verdict=pb.GateVerdict.INCONCLUSIVE, reason="checked by hand")
    assert refusal(lambda: admin.OverrideGate(unset)).violations[0].field == "verdict"
    made = admin.OverrideGate(request)

    assert admin.OverrideGate(request) == made
    assert (made.override, made.override_reason, made.creator) == (True, "checked by hand", "users/root")
    assert get(stub, first).state == pb.ModelVersion.APPROVED
    kept = stub.ListGateVerdicts(pb.ListGateVerdictsRequest(parent=first)).gate_verdicts
    assert [verdict.override for verdict in kept] == [True, False]


def test_a_policy_is_set_by_engineers_and_admins_alone(registry: Service, keys: Keys, model: str) -> None:
    with registry.channel(keys.service("pipelines")) as opened:
        service = registry_pb2_grpc.RegistryServiceStub(opened)
        request = pb.SetGatePolicyRequest(parent=model, yaml=POLICY)

        assert refusal(lambda: service.SetGatePolicy(request)).reason == "ROLE_MISSING"


def test_two_judges_at_once_leave_two_verdicts_and_a_repeat_leaves_one(stub: Any, model: str) -> None:
    first = f"{model}/versions/1"
    evaluate(stub, first, GOOD)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: judge(stub, first), range(8)))
        again = list(pool.map(lambda _: judge(stub, first, request_id="same-" + model[-8:]), range(4)))

    numbers = sorted(int(verdict.name.rpartition("/")[2]) for verdict in made)
    assert numbers == list(range(1, 9))
    assert len({verdict.name for verdict in again}) == 1
    assert get(stub, first).gate_verdict == f"{first}/gateVerdicts/9"


def test_only_one_of_two_first_versions_judged_at_once_passes_as_the_first(stub: Any, model: str) -> None:
    versions = [f"{model}/versions/{number}" for number in (1, 2)]
    for version in versions:
        evaluate(stub, version, GOOD)

    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda version: judge(stub, version), versions))

    assert sorted(verdict.verdict for verdict in made) == [pb.GateVerdict.APPROVED, pb.GateVerdict.REFUSED]


def test_the_champion_is_an_approved_version_and_moves_by_compare_and_set(
    stub: Any, admin: Any, model: str
) -> None:
    first, second, name = f"{model}/versions/1", f"{model}/versions/2", f"{model}/aliases/champion"
    early = pb.SetAliasRequest(name=name, model_version=second)
    assert refusal(lambda: stub.SetAlias(early)).reason == "VERSION_NOT_APPROVED"
    champion_of(stub, model)
    admin.OverrideGate(
        pb.OverrideGateRequest(name=second, verdict=pb.GateVerdict.APPROVED, reason="checked by hand")
    )

    moved = refusal(
        lambda: stub.SetAlias(pb.SetAliasRequest(name=name, model_version=second, expected_version=second))
    )
    made = stub.SetAlias(pb.SetAliasRequest(name=name, model_version=second, expected_version=first))

    assert (moved.reason, moved.metadata["model_version"]) == ("ALIAS_MOVED", first)
    assert (made.model_version, made.updater) == (second, "users/ann")
    assert list(get(stub, first).aliases) == []


def test_aliases_are_listed_found_by_near_names_and_taken_away(stub: Any, model: str) -> None:
    first = f"{model}/versions/1"
    for alias in ("nightly", "canary"):
        stub.SetAlias(pb.SetAliasRequest(name=f"{model}/aliases/{alias}", model_version=first))

    listed = stub.ListAliases(pb.ListAliasesRequest(parent=model, page_size=1))
    gone = stub.DeleteAlias(pb.DeleteAliasRequest(name=f"{model}/aliases/canary"))

    assert (listed.aliases[0].name, bool(listed.next_page_token)) == (f"{model}/aliases/canary", True)
    assert gone.model_version == first
    missing = refusal(lambda: stub.GetAlias(pb.GetAliasRequest(name=f"{model}/aliases/nightl")))
    assert (missing.reason, missing.metadata["near"]) == ("ALIAS_NOT_FOUND", "nightly")
    other = bare_model(stub)
    strange = pb.SetAliasRequest(name=f"{other}/aliases/x", model_version=first)
    assert refusal(lambda: stub.SetAlias(strange)).violations[0].field == "model_version"


def test_versions_are_listed_by_state(stub: Any, model: str) -> None:
    first = champion_of(stub, model)

    def of(*states: Any) -> list[str]:
        request = pb.ListModelVersionsRequest(parent=model, states=states)
        return [version.name for version in stub.ListModelVersions(request).model_versions]

    assert of(pb.ModelVersion.APPROVED) == [first]
    assert of(pb.ModelVersion.CANDIDATE) == [f"{model}/versions/2"]
    assert len(of(pb.ModelVersion.APPROVED, pb.ModelVersion.CANDIDATE)) == len(of()) == 2
    assert refusal(lambda: of(99)).violations[0].field == "states"


def test_lineage_leads_from_a_commit_to_versions_and_back(stub: Any, model: str) -> None:
    first = get(stub, f"{model}/versions/1")

    def parents(name: str) -> list[str]:
        return list(stub.ListParents(pb.ListParentsRequest(name=name)).names)

    def children(name: str) -> list[str]:
        found, token = [], ""
        while True:
            page = stub.ListChildren(pb.ListChildrenRequest(name=name, page_size=1, page_token=token))
            found, token = [*found, *page.names], page.next_page_token
            if not token:
                return found

    assert parents(first.name) == [first.run]
    assert parents(first.run) == [COMMIT, "trainingJobs/j1", "taskCode/" + "cd" * 32]
    assert first.run in children(COMMIT)
    assert children(first.run) == [first.name]
    assert children(model) == [first.name, f"{model}/versions/2"]
    assert children(first.name) == children("datasets/flowers/commits/" + "00" * 32) == []
    assert refusal(lambda: children("annotators/x")).violations[0].field == "name"
    assert refusal(lambda: parents(f"{model}/versions/9")).reason == "MODEL_VERSION_NOT_FOUND"


def test_what_is_recorded_and_judged_survives_a_kill(
    stub: Any, registry: Service, keys: Keys, model: str
) -> None:
    first = f"{model}/versions/1"
    made, verdict = evaluate(stub, first, GOOD), judge(stub, first)

    registry.kill()
    registry.start()

    with registry.channel(keys.user("ann")) as opened:
        again = registry_pb2_grpc.RegistryServiceStub(opened)
        assert again.GetVersionEvaluation(pb.GetVersionEvaluationRequest(name=made.name)) == made
        assert again.GetGateVerdict(pb.GetGateVerdictRequest(name=verdict.name)) == verdict
