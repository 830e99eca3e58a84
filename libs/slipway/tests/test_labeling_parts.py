"""What `slipway label` makes of what people type and of what services say."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from slipway.cli.evaluations import figure_rows, lost_most, whole_or
from slipway.cli.gates import why
from slipway.cli.labeling.confusion import confusion_table, shade
from slipway.cli.labeling.curve import curve_lines, fitted, read_points
from slipway.cli.labeling.names import METHODS, answer, chosen, estimate, labels_of, part_name
from slipway.cli.labeling.quality import annotator_row
from slipway.cli.labeling.schema import pause_rule, read_schema
from slipway.cli.labeling.tasks import KEYS_PER_CALL, parts_of, read_gold, read_keys
from slipway.client import SlipwayError
from slipway.labeling.v1 import labeling_pb2 as lab
from slipway.registry.v1 import registry_pb2 as reg


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_schema_comes_from_labels_or_from_yaml(tmp_path: Path) -> None:
    file = write(tmp_path / "s.yaml", "labels: [rose, tulip]\nmultiple: true\ninstructions: Which?\n")

    typed = read_schema("rose, tulip", None, multiple=True, instructions="Which?")
    read = read_schema("", file, multiple=False, instructions="")

    assert typed == read
    assert read_schema("", None, multiple=False, instructions="") is None
    with pytest.raises(SlipwayError, match="say one of them"):
        read_schema("a,b", file, multiple=False, instructions="")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("labels: rose", "must be a list"),
        ("labels: [no, yes]", "in quotes"),
        ("labels: [a, b]\nmultiple: 1", "say true or false"),
        ("lables: [a, b]", "unknown key 'lables'"),
        ("- a", "no YAML mapping"),
        ("labels: [", "is no YAML"),
    ],
)
def test_a_schema_file_that_is_wrong_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SlipwayError, match=said):
        read_schema("", write(tmp_path / "s.yaml", text), multiple=False, instructions="")


def test_the_pause_rule_is_typed_or_off() -> None:
    rule = pause_rule("error=0.2,answers=30")

    assert (rule.max_error_rate, rule.min_answers, rule.report_only) == (0.2, 30, False)
    assert pause_rule("off").report_only
    for text in ("error", "errors=1", "error=much", "answers=1.5"):
        with pytest.raises(SlipwayError, match="--pause"):
            pause_rule(text)


def test_keys_are_read_once_each_and_gold_says_its_line(tmp_path: Path) -> None:
    keys = write(tmp_path / "keys.txt", "a.png\nb.png\n\na.png\n")
    gold = write(
        tmp_path / "gold.jsonl", '{"key": "a.png", "label": "rose"}\n\n{"key": "b.png", "labels": []}\n'
    )

    assert read_keys(keys) == ["a.png", "b.png"]
    assert {key: list(one.choice.labels) for key, one in read_gold(gold).items()} == {
        "a.png": ["rose"], "b.png": []
    }  # fmt: skip
    for text in ('{"key": "a"}', "[1]", "{", '{"key": 1, "label": "a"}', '{"key": "a", "label": 7}'):
        with pytest.raises(SlipwayError, match="line 2"):
            read_gold(write(tmp_path / "bad.jsonl", f"\n{text}\n"))


def test_many_keys_are_asked_for_in_parts_each_with_its_own_gold() -> None:
    keys = [str(number) for number in range(KEYS_PER_CALL + 5)]
    gold = {"0": answer("rose"), str(KEYS_PER_CALL): answer("tulip")}

    first, second = parts_of(lab.CreateTasksRequest(parent="labelingProjects/p", hold=True), keys, gold)

    assert (len(first.keys), len(second.keys)) == (KEYS_PER_CALL, 5)
    assert (list(first.gold), list(second.gold)) == (["0"], [str(KEYS_PER_CALL)])
    assert second.hold
    with pytest.raises(SlipwayError, match="'elsewhere'"):
        parts_of(lab.CreateTasksRequest(), ["0"], {"elsewhere": answer("rose")})


def test_points_are_typed_or_read(tmp_path: Path) -> None:
    row = {"label_count": 100, "accuracy": 0.8, "example_count": 2000}
    file = write(tmp_path / "points.jsonl", json.dumps(row) + "\n")

    assert read_points(["100:0.8:2000"], None) == read_points([], file)
    for text in ("100", "100:0.8", "a:b:c"):
        with pytest.raises(SlipwayError, match="is no point"):
            read_points([text], None)
    with pytest.raises(SlipwayError, match="line 1"):
        read_points([], write(tmp_path / "bad.jsonl", '{"labels": 3}\n'))


def test_the_curve_is_drawn_from_the_fewest_labels_to_those_ahead() -> None:
    curve = lab.LearningCurve(floor=0.1, scale=1.0, rate=0.5)

    lines = curve_lines(curve, [lab.LearningPoint(label_count=100)], 400)

    assert fitted(curve, 400) == pytest.approx(0.85)
    assert lines[0].strip().startswith("0.85")
    assert lines[-2].strip().startswith("0.8 ")
    assert lines[-1].split() == ["100", "400"]


def drawn(labels: list[str], matrix: list[float]) -> str:
    screen = Console(width=1000, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - ends with the test
    screen.print(confusion_table(labels, matrix, "ann"))
    return screen.export_text()


def test_a_confusion_has_counts_shades_and_dots_for_nothing() -> None:
    text = drawn(["rose", "tulip"], [9.0, 1.0, 0.0, 4.0])

    rows = [line.split() for line in text.splitlines() if line.strip()][2:]
    assert rows == [["rose", "9.0", "█", "1.0"], ["tulip", "·", "4.0", "█"]]
    assert [shade(share) for share in (0.0, 0.3, 0.5, 0.7, 1.0)] == [" ", "░", "▒", "▓", "█"]


def test_a_confusion_of_many_labels_says_that_it_is_cut() -> None:
    labels = [f"label{number}" for number in range(25)]

    text = drawn(labels, [1.0] * 625)

    assert "the first 20 of 25 labels" in text
    assert "label19" in text
    assert "label20" not in text


def test_an_annotator_of_whom_nothing_is_known_has_no_error_rate() -> None:
    new = annotator_row(lab.Annotator(name="labelingProjects/p/annotators/ann", error_rate=-1))
    bad = annotator_row(
        lab.Annotator(
            name="labelingProjects/p/annotators/cas", error_rate=0.3, error_rate_low=0.2, error_rate_high=0.4,
            careless=True, paused=True, pause_reason="wrong too often", gold_count=4, gold_correct_count=1,
        )
    )  # fmt: skip

    assert new[2:5] == ("not known yet", "", "")
    assert bad == ("cas", 0, "30.0 %", "0.200 to 0.400", "1/4", 0, "paused: wrong too often")


def test_answers_names_and_words_are_read_and_shown() -> None:
    task = lab.Task(gold=answer("rose, tulip"))
    task.consensus.choice.SetInParent()

    assert (labels_of(task, "gold"), labels_of(task, "consensus"), labels_of(task, "reviewed")) == (
        "rose, tulip", "(none)", ""
    )  # fmt: skip
    assert part_name("p", "tasks", "7") == "labelingProjects/p/tasks/7"
    assert part_name("x", "tasks", "labelingProjects/p/tasks/7") == "labelingProjects/p/tasks/7"
    assert chosen("--method", "dawid-skene", METHODS) == lab.DAWID_SKENE
    with pytest.raises(SlipwayError, match="majority, weighted, dawid-skene"):
        chosen("--method", "median", METHODS)
    assert estimate(lab.Estimate(undefined_reason="one annotator alone", count=1)) == (
        "one annotator alone",
        "",
        1,
    )


def test_the_slices_that_lost_most_stand_first() -> None:
    slices = [
        reg.SliceReport(slice="label=a", lost_count=2, won_count=1),
        reg.SliceReport(slice="label=b", lost_count=9, won_count=1),
        reg.SliceReport(slice="label=c", lost_count=3, won_count=3),
    ]

    assert [one.slice for one in lost_most(slices)] == ["label=b", "label=a"]


def test_figures_stand_beside_the_champion_s() -> None:
    both = figure_rows({"metrics": {"accuracy": 0.9, "ece": 0.1}, "champion_metrics": {"accuracy": 0.8}})

    assert both == [("accuracy", 0.9, 0.8, pytest.approx(0.1)), ("ece", 0.1, "", "")]
    assert (whole_or("all"), whole_or("test")) == ("", "test")


def test_a_verdict_says_in_a_line_why() -> None:
    failed = reg.GateFinding(gate="threshold", metric="accuracy", outcome=reg.GateFinding.FAILED)
    passed = reg.GateFinding(gate="size", outcome=reg.GateFinding.PASSED)

    assert why(reg.GateVerdict(findings=[failed, passed])) == "threshold accuracy"
    assert why(reg.GateVerdict(findings=[passed])) == "every check passed"
    assert why(reg.GateVerdict(override=True, override_reason="seen by hand")) == "override: seen by hand"
