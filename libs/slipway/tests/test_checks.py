"""Tests of a trained model, on a real graph under ONNX Runtime, and the budget that they keep."""

import json
import signal
import threading
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from blake3 import blake3
from onnx import TensorProto, helper, numpy_helper
from slipway.checks import Check, Report, read_cases, write_junit
from slipway.checks.budget import Step, run_steps
from slipway.checks.engine import relative_difference
from slipway.checks.functionality import bundle_steps, probability_fault
from slipway.checks.training_system import metric_checks
from slipway.checks.validation import finding_check, finding_name
from slipway.client import SlipwayError
from slipway.client.bundles import verify_bundle
from slipway.registry.v1 import registry_pb2 as reg

CLASSES = ("rose", "tulip")
GOLDEN = np.random.default_rng(0).integers(0, 255, (5, 2, 2, 1), dtype=np.uint8)


def graph(*, softmax: bool = True, over_the_batch: bool = False) -> bytes:
    """Return a graph of one matrix; `over_the_batch` lets rows of a batch change one another."""
    weights = np.asarray([[0.01, 0.0], [0.0, 0.01], [0.02, 0.0], [0.0, 0.0]], np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["embedding"]),
        helper.make_node(
            "Softmax" if softmax else "Identity", ["embedding"], ["rows"], **({"axis": 1} if softmax else {})
        ),
    ]
    last = helper.make_node("Identity", ["rows"], ["probabilities"])
    if over_the_batch:
        last = helper.make_node("Softmax", ["embedding"], ["probabilities"], axis=0)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2])
        for name in ("probabilities", "embedding")
    ]
    made = helper.make_graph(
        [*nodes, last],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 2, 2, 1])],
        outputs,
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def answers(image: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the graph must answer, by numpy."""
    flat = image.reshape(len(image), -1).astype(np.float32)
    embedding = flat @ np.asarray([[0.01, 0.0], [0.0, 0.01], [0.02, 0.0], [0.0, 0.0]], np.float32)
    exponents = np.exp(embedding - embedding.max(axis=1, keepdims=True))
    return {"probabilities": exponents / exponents.sum(axis=1, keepdims=True), "embedding": embedding}


def bundle(model: bytes, *, classes: Sequence[str] = CLASSES, shift: float = 0.0) -> dict[str, bytes]:
    """Return a bundle's files around a graph; `shift` makes the golden answers wrong."""
    golden = BytesIO()
    outputs = {f"out.{name}": array + np.float32(shift) for name, array in answers(GOLDEN).items()}
    np.savez(golden, allow_pickle=False, **{"in.image": GOLDEN, **outputs})
    signature = {
        "inputs": [{"name": "image", "dtype": "UINT8", "shape": [-1, 2, 2, 1]}],
        "outputs": [
            {"name": "probabilities", "dtype": "FP32", "shape": [-1, len(classes)]},
            {"name": "embedding", "dtype": "FP32", "shape": [-1, 2]},
        ],
        "classes": list(classes),
        "max_batch": 8,
    }
    files = {"model.onnx": model, "golden.npz": golden.getvalue()}
    return {**files, "signature.json": json.dumps(signature).encode()}


def failed(files: dict[str, bytes]) -> list[str]:
    report = run_steps(Report("functionality", "models/flowers/versions/1", 600.0), bundle_steps(files))
    return [check.name for check in report.failures]


def test_a_sound_bundle_passes_every_check() -> None:
    report = run_steps(Report("functionality", "v1", 600.0), bundle_steps(bundle(graph())))

    assert report.passed
    assert [check.name for check in report.checks if check.outcome != "passed"] == []
    assert len(report.checks) == 8


def test_golden_answers_that_differ_fail_by_name() -> None:
    assert failed(bundle(graph(), shift=0.01)) == ["golden"]


def test_outputs_that_are_no_probabilities_fail_for_golden_and_for_edge_inputs() -> None:
    names = failed(bundle(graph(softmax=False)))

    assert "golden" in names
    assert {"probabilities, golden inputs", "probabilities, zero inputs"} <= set(names)


def test_a_row_that_depends_on_its_batch_fails() -> None:
    names = failed(bundle(graph(over_the_batch=True)))

    assert {"batch of 1 as in 5", "batch of 1 as in 8"} <= set(names)


def test_classes_that_do_not_fit_the_probabilities_fail_the_signature_and_end_the_test() -> None:
    files = bundle(graph(), classes=("rose", "tulip", "lily"))

    report = run_steps(Report("functionality", "v1", 600.0), bundle_steps(files))

    assert [check.name for check in report.failures] == ["signature"]
    assert [check.outcome for check in report.checks[-3:]] == ["skipped", "skipped", "skipped"]
    assert "'signature' failed" in report.checks[-1].message


@pytest.mark.parametrize("lost", ["model.onnx", "signature.json", "golden.npz"])
def test_a_bundle_that_lacks_a_file_fails_without_a_traceback(lost: str) -> None:
    files = bundle(graph())
    del files[lost]

    assert failed(files) != []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[0.5, 0.5]], ""),
        ([[np.nan, 0.5]], "not finite"),
        ([[1.5, -0.5]], "values from"),
        ([[0.6, 0.5]], "sums to"),
    ],
)
def test_rows_are_probabilities_or_it_is_said_why_not(rows: list[list[float]], said: str) -> None:
    fault = probability_fault(np.asarray(rows, np.float32))

    assert (said in fault) if said else fault == ""


def test_differences_are_infinite_where_shapes_differ_and_nan_stays_nan() -> None:
    one = np.ones((2, 2), np.float32)

    assert relative_difference({"a": one}, {"a": one}) == 0.0
    assert relative_difference({"a": one[:1]}, {"a": one}) == float("inf")
    assert relative_difference({"b": one}, {"a": one}) == float("inf")
    assert np.isnan(relative_difference({"a": one * np.nan}, {"a": one}))


def test_a_step_that_hangs_is_cut_off_named_and_undone() -> None:
    forever, undone, now = threading.Event(), [], [0.0]

    def quick() -> list[Check]:
        now[0] = 599.7
        return [Check("quick", "passed")]

    steps = [
        Step("quick", quick),
        Step(
            "hangs",
            lambda: [Check("never", "passed")] if forever.wait() else [],
            undo=lambda: undone.append(1),
        ),
        Step("after", lambda: [Check("after", "passed")]),
    ]

    report = run_steps(Report("functionality", "v1", 600.0), steps, clock=lambda: now[0])
    forever.set()

    assert not report.passed
    assert [(check.name, check.outcome) for check in report.checks] == [
        ("quick", "passed"), ("time budget", "failed"), ("after", "skipped")
    ]  # fmt: skip
    assert "'hangs', which was cut off" in report.checks[1].message
    assert undone == [1]


def test_an_interrupted_test_undoes_the_step_that_it_waits_for() -> None:
    forever, undone = threading.Event(), []
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> list[Check]:
        signal.pthread_kill(main, signal.SIGINT)
        forever.wait()
        return []

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    try:
        with pytest.raises(KeyboardInterrupt):
            run_steps(
                Report("validation", "v1", 600.0),
                [Step("evaluation", interrupt, undo=lambda: undone.append(1))],
            )
    finally:
        signal.signal(signal.SIGINT, before)
        forever.set()

    assert undone == [1]


def test_a_step_that_raises_fails_by_name_and_the_next_one_runs() -> None:
    def refuse() -> list[Check]:
        raise SlipwayError("NOT_FOUND", "BUNDLE_NOT_FOUND", "there is no bundle 'x'")

    def break_down() -> list[Check]:
        raise ZeroDivisionError("a model does what it likes")

    steps = [
        Step("refused", refuse),
        Step("broken", break_down),
        Step("good", lambda: [Check("good", "passed")]),
    ]

    report = run_steps(Report("functionality", "v1", 600.0), steps)

    assert [(check.name, check.value) for check in report.failures] == [
        ("refused", "BUNDLE_NOT_FOUND"),
        ("broken", "ZeroDivisionError"),
    ]
    assert report.checks[-1].outcome == "passed"


def test_a_test_that_checked_nothing_did_not_pass() -> None:
    assert not Report("functionality", "v1", 1.0).passed


def test_junit_counts_failures_and_keeps_what_xml_cannot_hold_out(tmp_path: Path) -> None:
    report = Report("functionality", "models/flowers/versions/1", 10.0, seconds=1.5)
    report.checks = [
        Check("good", "passed", 1.0, 2.0),
        Check("bad", "failed", "a\x00b", "c", "it is <bad> & \x1b[31m"),
        Check("left", "skipped", message="not run"),
    ]

    write_junit(report, tmp_path / "reports" / "junit.xml")

    (suite,) = ElementTree.parse(tmp_path / "reports" / "junit.xml").getroot()
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped", "time")} == {
        "tests": "3", "failures": "1", "skipped": "1", "time": "1.500"
    }  # fmt: skip
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message", "").startswith("it is <bad> & ")


def test_cases_name_keys_and_files_beside_them(tmp_path: Path) -> None:
    (tmp_path / "odd.png").write_bytes(b"x")
    (tmp_path / "cases.yaml").write_text("at: main\nkeys: {rose/1.png: rose}\nfiles: {odd.png: tulip}\n")

    cases = read_cases(tmp_path / "cases.yaml")

    assert (cases.at, cases.keys, cases.files) == (
        "main", {"rose/1.png": "rose"}, {tmp_path / "odd.png": "tulip"}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names nothing"),
        ("keyz: {a: b}", "unknown section 'keyz'"),
        ("keys: [a]", "must map each example"),
        ("keys: {a: no}", "write it in quotes"),
        ("files: {gone.png: rose}", "there is no file"),
        ("keys: {", "is no YAML"),
    ],
)
def test_cases_that_are_wrong_are_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "cases.yaml").write_text(text)

    with pytest.raises(SlipwayError, match=said):
        read_cases(tmp_path / "cases.yaml")


def test_metrics_are_compared_within_the_tolerance_relative_above_one() -> None:
    before = {"accuracy": 0.90, "loss": 10.0, "f1": 0.8}
    again = {"accuracy": 0.93, "loss": 10.15, "recall": 0.8}

    found = {check.name: check.outcome for check in metric_checks(before, again, 0.02)}

    assert found == {
        "metric accuracy": "failed", "metric loss": "passed", "metric f1": "failed", "metric recall": "failed"
    }  # fmt: skip


def test_a_metric_that_became_nan_fails() -> None:
    (check,) = metric_checks({"loss": 0.5}, {"loss": float("nan")}, 0.02)

    assert check.outcome == "failed"


def test_what_a_gate_could_not_decide_does_not_pass() -> None:
    finding = reg.GateFinding(
        gate="regression",
        metric="accuracy",
        slice="label=rose",
        outcome=reg.GateFinding.UNDECIDED,
        message="n is 3",
    )

    assert finding_check(finding).outcome == "failed"
    assert finding_name(finding) == "regression accuracy label=rose"
    assert finding_name(reg.GateFinding(gate="latency", metric="latency")) == "latency"


def manifest_of(files: dict[str, bytes]) -> tuple[str, dict[str, bytes]]:
    """Return the bundle's name, and its files with a manifest."""
    listed = {name: {"blake3": blake3(data).hexdigest(), "size": len(data)} for name, data in files.items()}
    canonical = json.dumps(listed, sort_keys=True, separators=(",", ":")).encode()
    manifest = json.dumps({"format": 1, "files": listed}).encode()
    return f"bundles/{blake3(canonical).hexdigest()}", {**files, "manifest.json": manifest}


def test_a_bundle_is_verified_file_by_file() -> None:
    name, files = manifest_of({"a.bin": b"a", "b.bin": b"b"})

    verify_bundle(name, files)

    for damaged, said in (
        ({**files, "a.bin": b"A"}, "a.bin is not what its digest says"),
        ({k: v for k, v in files.items() if k != "b.bin"}, "b.bin is missing"),
        ({**files, "c.bin": b"c"}, "c.bin is not named"),
        ({"a.bin": b"a"}, "came without manifest.json"),
        ({**files, "manifest.json": b"{}"}, "cannot be read"),
    ):
        with pytest.raises(SlipwayError, match=said):
            verify_bundle(name, damaged)
    with pytest.raises(SlipwayError, match="another digest"):
        verify_bundle("bundles/" + "0" * 64, files)
