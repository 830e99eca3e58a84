"""What callers of rollout may rely on while a version gets its traffic."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import psycopg
import pytest
from callers import Behaviour
from cluster import until
from slipway.rollout.v1 import rollout_pb2 as pb
from slipway_runtime.rpc import from_rpc_error

State, Decision = pb.Rollout.State, pb.Verdict.Decision
OFF = pb.Gate(off=True)
LABELS_ONLY = pb.RolloutGates(errors=OFF, latency=OFF, shift=OFF, disagreement=OFF, max_error_rate=1)
GOOD = Behaviour(accuracy=1.0)  # of equal versions that err, some fail by chance: see the twenty


def steps(*weights: int, count: int = 20, **fields: Any) -> list[pb.RolloutStep]:
    return [pb.RolloutStep(weight=w, min_duration_s=0.3, min_count=count, **fields) for w in weights]


def refusal(ask: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        ask()
    return from_rpc_error(caught.value)


def verdicts(house: Any, rollout: pb.Rollout) -> list[pb.Verdict]:
    return list(house.stub.ListVerdicts(pb.ListVerdictsRequest(parent=rollout.name)).verdicts)


def looked_at(house: Any, rollout: pb.Rollout) -> pb.Rollout:
    """Wait until the rollout was looked at, from the look's beginning on; return it."""
    for _ in range(2):  # the first may have begun before
        seen = house.now(rollout).verdict.update_time
        until(lambda seen=seen: house.now(rollout).verdict.update_time != seen)
    return house.now(rollout)


def servings(house: Any, id: str) -> list[pb.Serving]:
    return list(house.stub.ListServings(pb.ListServingsRequest(parent=f"endpoints/{id}")).servings)


def test_a_good_version_gets_all_traffic_step_by_step(house: Any) -> None:
    id = house.endpoint(1)
    house.callers(id, {"v1": GOOD, "v2": GOOD})

    rollout = house.rollout(id, 2, steps=steps(0, 5, 50, 100))
    ended = house.ended(rollout)

    log = verdicts(house, rollout)
    passed = [(v.step, v.weight) for v in reversed(log) if v.decision == Decision.PASS]
    assert State.Name(ended.state) == "SUCCEEDED"
    assert house.operator.weights(id) == {"v1": 0, "v2": 100}
    assert passed == [(0, 0), (1, 5), (2, 50), (3, 100)]
    assert {g.gate for g in log[0].gates} >= {"errors", "latency", "shift", "quality", "max_error_rate"}
    assert all(g.count > 0 for g in log[0].gates if g.gate in ("errors", "latency", "shift", "quality"))


def test_a_bad_version_is_rolled_back_by_late_labels_alone(house: Any) -> None:
    id = house.endpoint(1)
    callers = house.callers(id, {"v1": GOOD, "v2": Behaviour(accuracy=0.6)})

    rollout = house.rollout(id, 2, steps=steps(5, 25, 100, count=50), gates=LABELS_ONLY)
    ended = house.ended(rollout)

    last = verdicts(house, rollout)[0]
    (quality,) = last.gates
    assert State.Name(ended.state) == "FAILED"
    assert house.operator.weights(id) == {"v1": 100, "v2": 0}
    assert quality.e_value >= quality.fail_at == 20
    assert (quality.gate, Decision.Name(quality.decision)) == ("quality", "FAIL")
    assert 0 < ended.exposed_count <= callers.exposed["v2"]
    assert house.state(id, 2) == "READY"


@pytest.mark.parametrize(
    ("new", "gate"), [(Behaviour(error_rate=0.5), "errors"), (Behaviour(median_ms=40.0), "latency")]
)
def test_the_mesh_s_counters_alone_roll_a_version_back(house: Any, new: Behaviour, gate: str) -> None:
    id = house.endpoint(1)
    house.callers(id, {"v1": GOOD, "v2": new}, labels=False)

    gates = pb.RolloutGates(quality=OFF, shift=OFF)
    ended = house.ended(house.rollout(id, 2, steps=steps(20, 100, count=10**6), gates=gates))

    assert State.Name(ended.state) == "FAILED"
    assert f"{gate}: " in ended.state_reason


def test_a_mirrored_version_that_errs_is_failed_before_it_answers_anybody(house: Any) -> None:
    id = house.endpoint(1)
    house.callers(id, {"v1": GOOD, "v2": Behaviour(error_rate=0.5)})

    ended = house.ended(house.rollout(id, 2, steps=steps(0, 50, 100)))

    assert (State.Name(ended.state), ended.step, ended.exposed_count) == ("FAILED", 0, 0)
    assert "mirror" not in house.operator.there("VirtualService", id)["spec"]["http"][-1]


def test_a_weight_of_zero_is_one_write_of_the_route(house: Any) -> None:
    id = house.endpoint(1, 2)
    callers = house.callers(id, {"v1": GOOD, "v2": GOOD})
    rollout = house.rollout(id, 2, steps=steps(50, 100, count=10**6), gates=LABELS_ONLY)
    until(lambda: house.operator.weights(id) == {"v1": 50, "v2": 50})
    writes: list[str] = []
    house.meddler.reset(
        before=lambda _, method, path: writes.append(f"{method} {path}") if id in path else None
    )

    callers.versions["v2"] = Behaviour(accuracy=0.3)
    house.ended(rollout)

    assert [w.partition("?")[0].rpartition("/")[0].rpartition("/")[2] for w in writes] == ["virtualservices"]


def test_without_traffic_a_step_is_held_and_then_paused(house: Any) -> None:
    id = house.endpoint(1)

    rollout = house.rollout(id, 2, steps=steps(1, 100, max_hold_s=1.5))
    held = until(lambda: (r := house.now(rollout)).verdict.reason and r.step_time.seconds and r)
    paused = until(lambda: (r := house.now(rollout)).state == State.PAUSED and r)

    assert Decision.Name(held.verdict.decision) == "HOLD"
    assert "0 of 20 requests" in paused.state_reason
    assert house.operator.weights(id) == {"v1": 99, "v2": 1}


def test_a_hold_that_is_too_long_fails_where_the_step_says_so(house: Any) -> None:
    id = house.endpoint(1)

    asked = steps(1, 100, max_hold_s=1, on_hold=pb.RolloutStep.FAIL)
    ended = house.ended(house.rollout(id, 2, steps=asked))

    assert State.Name(ended.state) == "FAILED"
    assert house.operator.weights(id) == {"v1": 100, "v2": 0}


def test_traffic_without_labels_is_no_evidence_of_quality(house: Any) -> None:
    id = house.endpoint(1)
    house.callers(id, {"v1": GOOD, "v2": GOOD}, labels=False)

    rollout = house.rollout(id, 2, steps=steps(20, 100))
    held = until(lambda: (r := house.now(rollout)).verdict.reason.startswith("quality: 0 of 10") and r)

    assert (Decision.Name(held.verdict.decision), held.step) == ("HOLD", 0)


def test_a_version_that_never_comes_up_fails_at_its_timeout_and_is_held_until_then(house: Any) -> None:
    id = house.endpoint(1)
    house.laptop.hold(f"{id}-v2")

    rollout = house.rollout(id, 2, ready_timeout_s=1800)
    held = until(lambda: (r := house.now(rollout)).verdict.reason and r)
    begun_before(house, rollout, 1801)
    ended = house.ended(rollout)

    assert (State.Name(held.state), Decision.Name(held.verdict.decision)) == ("PENDING", "HOLD")
    assert State.Name(ended.state) == "FAILED"
    assert "was not ready within 1800 s" in ended.state_reason
    assert house.operator.weights(id) == {"v1": 100}


def begun_before(house: Any, rollout: pb.Rollout, seconds: float) -> None:
    """Let a rollout have been made so long ago."""
    _, id, _, number = rollout.name.split("/")
    statement = (
        "UPDATE rollouts SET content = jsonb_set(content::jsonb, '{create_time}', "
        "to_jsonb(clock_timestamp() - make_interval(secs => %s))) WHERE endpoint = %s AND number = %s"
    )
    with psycopg.connect(house.database_url.replace("postgresql+psycopg", "postgresql")) as connection:
        connection.execute(statement, (seconds, id, int(number)))


def test_a_version_whose_pods_fail_in_mid_canary_loses_its_traffic(house: Any) -> None:
    id = house.endpoint(1, 2)
    house.callers(id, {"v1": GOOD, "v2": GOOD})
    rollout = house.rollout(id, 2, steps=steps(50, 100, count=10**6))
    until(lambda: house.operator.weights(id) == {"v1": 50, "v2": 50})

    house.laptop.hold(f"{id}-v2")
    ended = house.ended(rollout)

    assert "ready: models/m/versions/2 is FAILED" in ended.state_reason


def test_what_would_cross_a_running_rollout_is_refused_and_names_it(house: Any) -> None:
    id = house.endpoint(1, 2)
    rollout = house.rollout(id, 2, steps=steps(1, 100))
    undeploy = pb.UndeployVersionRequest(name=f"endpoints/{id}", model_version="models/m/versions/2")

    refused = [
        refusal(lambda: house.rollout(id, 3)),
        refusal(lambda: house.deploy(id, 3)),
        refusal(lambda: house.split(id, v1=90, v2=10)),
        refusal(lambda: house.stub.SetShadow(pb.SetShadowRequest(name=f"endpoints/{id}", subset="v2"))),
        refusal(lambda: house.stub.UndeployVersion(undeploy)),
    ]

    assert {error.reason for error in refused} == {"ROLLOUT_RUNNING"}
    assert {error.metadata["rollout"] for error in refused} == {rollout.name}


def test_an_edit_by_hand_pauses_and_is_not_overwritten_until_resumed_with_the_etag(house: Any) -> None:
    id = house.endpoint(1, 2)
    callers = house.callers(id, {"v1": GOOD, "v2": GOOD})
    rollout = house.rollout(id, 2, steps=steps(20, 100, count=10**6), gates=LABELS_ONLY)
    until(lambda: house.operator.weights(id) == {"v1": 80, "v2": 20})

    house.operator.set_weights(id, 60, 40)
    paused = until(lambda: (r := house.now(rollout)).state == State.PAUSED and r)
    callers.versions["v2"] = Behaviour(accuracy=0.2)
    until(lambda: house.now(rollout).verdict.decision == Decision.FAIL)
    standing = house.operator.weights(id)
    bare = refusal(lambda: house.stub.ResumeRollout(pb.ResumeRolloutRequest(name=rollout.name)))
    etag = house.get(id).etag
    house.stub.ResumeRollout(pb.ResumeRolloutRequest(name=rollout.name, endpoint_etag=etag))
    ended = house.ended(rollout)

    assert "v1=60, v2=40" in paused.state_reason
    assert standing == {"v1": 60, "v2": 40}
    assert bare.reason == "ROUTE_EDITED"
    assert State.Name(ended.state) == "FAILED"
    assert house.operator.weights(id) == {"v1": 100, "v2": 0}


def test_a_pause_stops_the_way_up_and_a_resume_goes_on(house: Any) -> None:
    id = house.endpoint(1, 2)
    house.callers(id, {"v1": GOOD, "v2": GOOD})
    rollout = house.rollout(id, 2, steps=steps(10, 60, 100, count=10**6))
    until(lambda: house.now(rollout).step_time.seconds)

    paused = house.stub.PauseRollout(pb.PauseRolloutRequest(name=rollout.name, reason="lunch"))
    again = refusal(lambda: house.rollout(id, 3))
    resumed = house.stub.ResumeRollout(pb.ResumeRolloutRequest(name=rollout.name))
    twice = refusal(lambda: house.stub.ResumeRollout(pb.ResumeRolloutRequest(name=rollout.name)))

    assert (State.Name(paused.state), paused.state_reason) == ("PAUSED", "paused by users/ann: lunch")
    assert again.reason == "ROLLOUT_RUNNING"
    assert State.Name(resumed.state) == "RUNNING"
    assert twice.reason == "ROLLOUT_NOT_PAUSED"


def test_a_paused_version_still_loses_its_traffic_when_it_fails(house: Any) -> None:
    id = house.endpoint(1, 2)
    callers = house.callers(id, {"v1": GOOD, "v2": GOOD})
    rollout = house.rollout(id, 2, steps=steps(50, 100, count=10**6), gates=LABELS_ONLY)
    until(lambda: house.operator.weights(id) == {"v1": 50, "v2": 50})
    house.stub.PauseRollout(pb.PauseRolloutRequest(name=rollout.name))

    callers.versions["v2"] = Behaviour(accuracy=0.2)

    assert State.Name(house.ended(rollout).state) == "FAILED"


def test_finish_and_abort_by_hand(house: Any) -> None:
    one, other = house.endpoint(1, 2), house.endpoint(1, 2)
    up, back = (house.rollout(id, 2, steps=steps(1, 100)) for id in (one, other))
    until(lambda: house.now(up).step_time.seconds and house.now(back).step_time.seconds)

    bare = refusal(lambda: house.stub.FinishRollout(pb.FinishRolloutRequest(name=up.name)))
    request_id = uuid.uuid4().hex
    finish = pb.FinishRolloutRequest(name=up.name, reason="known good", request_id=request_id)
    first = house.stub.FinishRollout(finish)
    house.stub.AbortRollout(pb.AbortRolloutRequest(name=back.name, reason="not today"))
    ended = [house.ended(rollout) for rollout in (up, back)]

    assert bare.violations[0].field == "reason"
    assert house.stub.FinishRollout(finish) == first
    assert [State.Name(r.state) for r in ended] == ["SUCCEEDED", "ABORTED"]
    assert "finished by users/ann: known good" in ended[0].state_reason
    assert house.operator.weights(one) == {"v1": 0, "v2": 100}
    assert house.operator.weights(other) == {"v1": 100, "v2": 0}
    assert (
        refusal(lambda: house.stub.AbortRollout(pb.AbortRolloutRequest(name=up.name))).reason
        == "ROLLOUT_ENDED"
    )


def test_what_served_when_is_known_with_who_and_why(house: Any) -> None:
    id = house.endpoint(1, 2)
    house.split(id, v1=0, v2=100)
    house.split(id, v1=100, v2=0)
    rollout = house.rollout(id, 2, steps=steps(40, 100))
    until(lambda: house.operator.weights(id) == {"v1": 60, "v2": 40})
    until(lambda: len(servings(house, id)) == 5)

    found = servings(house, id)

    said = [(s.model_version[-1], s.weight, s.actor) for s in reversed(found)]
    assert sorted(said[:3]) == sorted(
        [("1", 100, "rollout"), ("2", 100, "users/ann"), ("1", 100, "users/ann")]
    )
    assert sorted(said[3:]) == [("1", 60, rollout.name), ("2", 40, rollout.name)]
    assert [s.HasField("end_time") for s in found] == [False, False, True, True, True]
    assert found[2].end_time == found[1].start_time


def test_a_version_that_is_not_approved_or_not_known_is_refused(house: Any) -> None:
    id = house.endpoint(2, model="models/gated")
    other = house.endpoint(1)
    ask = pb.CreateRolloutRequest(
        parent=f"endpoints/{id}", rollout=pb.Rollout(model_version="models/gated/versions/1")
    )

    refused = [refusal(lambda: house.stub.CreateRollout(ask)), refusal(lambda: house.rollout(other, 77))]
    wrong = refusal(lambda: house.rollout(other, 2, steps=steps(50, 20, 100)))
    same = refusal(lambda: house.rollout(other, 1))

    assert [error.reason for error in refused] == ["VERSION_NOT_APPROVED", "MODEL_VERSION_NOT_FOUND"]
    assert (wrong.reason, wrong.violations[0].field) == ("INVALID_FIELD", "rollout.steps")
    assert same.reason == "NO_STABLE_VERSION"


def errors_of(rollout: pb.Rollout) -> pb.GateReading:
    return next(gate for gate in rollout.verdict.gates if gate.gate == "errors")


def test_counters_that_begin_again_count_nothing_twice(house: Any) -> None:
    id = house.endpoint(1, 2)
    callers = house.callers(id, {"v1": GOOD, "v2": GOOD})
    rollout = house.rollout(id, 2, steps=steps(50, 100, count=10**6))
    until(lambda: errors_of(house.now(rollout)).count > 200)

    house.admin.restart()
    before = errors_of(looked_at(house, rollout)).count
    until(lambda: errors_of(house.now(rollout)).count > before)
    callers.stop()
    errors = errors_of(looked_at(house, rollout))

    assert 200 < errors.count <= callers.sent["v2"]
    assert errors.stable_count <= callers.sent["v1"]


@pytest.mark.timeout(900)
def test_of_twenty_equal_versions_in_the_running_system_one_fails_at_most(house: Any) -> None:
    with ThreadPoolExecutor(5) as pool:
        ids = list(pool.map(lambda _: house.endpoint(1), range(20)))
    for seed, id in enumerate(ids):
        house.callers(id, {"v1": Behaviour(), "v2": Behaviour()}, seed=seed, every_s=0.3)

    rollouts = [house.rollout(id, 2, steps=steps(0, 5, 25, 50, 100)) for id in ids]
    ended = [house.ended(rollout, 600) for rollout in rollouts]

    states = [State.Name(rollout.state) for rollout in ended]
    failed = states.count("FAILED")
    assert failed <= 1  # four of 1600 did in simulated time: two of twenty come once in 900 runs
    assert states.count("SUCCEEDED") == 20 - failed


def test_rollouts_and_verdicts_are_listed_in_pages(house: Any) -> None:
    id = house.endpoint(1, 2)
    for _ in range(3):
        rollout = house.rollout(id, 2, steps=steps(1, 100))
        house.stub.AbortRollout(pb.AbortRolloutRequest(name=rollout.name))
        house.ended(rollout)

    first = house.stub.ListRollouts(pb.ListRolloutsRequest(parent=f"endpoints/{id}", page_size=2))
    rest = house.stub.ListRollouts(
        pb.ListRolloutsRequest(parent=f"endpoints/{id}", page_size=2, page_token=first.next_page_token)
    )

    numbers = [r.name.rpartition("/")[2] for r in (*first.rollouts, *rest.rollouts)]
    assert (numbers, rest.next_page_token) == (["3", "2", "1"], "")


def test_a_watch_ends_with_the_rollout(house: Any) -> None:
    id = house.endpoint(1, 2)
    house.callers(id, {"v1": GOOD, "v2": GOOD})
    rollout = house.rollout(id, 2, steps=steps(10, 100))

    seen = list(house.stub.WatchRollout(pb.WatchRolloutRequest(name=rollout.name), timeout=200))

    assert State.Name(seen[-1].state) == "SUCCEEDED"
    assert seen[-1].settled
