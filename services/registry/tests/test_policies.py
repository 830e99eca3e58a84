"""Policies are read strictly: each fault by its place, with what was meant; the manual's example is one."""

import re
from pathlib import Path

import pytest
from slipway_registry.domain.evaluations import METRICS
from slipway_registry.domain.policies import EvaluationRule, RegressionRule, Threshold, parse
from slipway_runtime.errors import InvalidArgument

MANUAL = (Path(__file__).parents[3] / "docs/gates.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", MANUAL, re.DOTALL)


def faults(text: str) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert caught.value.reason == "POLICY_REFUSED"
    return {violation.field: violation.description for violation in caught.value.violations}


def test_the_manuals_examples_are_policies() -> None:
    policies = [parse(example) for example in EXAMPLES]

    assert len(policies) >= 2
    assert policies[0].thresholds[0] == Threshold("accuracy", 0.95, None)
    assert policies[0].regression == RegressionRule(attributes=("scanner",), max_drop=0.02)
    assert (policies[0].max_ece, policies[0].max_ratio, policies[0].max_bytes) == (0.1, 1.5, 50_000_000)
    assert policies[0].evaluation == EvaluationRule("test", "datasets/flowers", 100)


def test_the_manual_names_every_key_and_metric() -> None:
    keys = {
        "split", "dataset", "minimum_examples", "min", "max", "alias", "alpha", "by_label", "attributes",
        "minimum_slice", "max_drop", "max_ece", "max_ratio", "max_bytes", "max_abs_diff", *METRICS,
    }  # fmt: skip

    assert [key for key in sorted(keys) if f"`{key}`" not in MANUAL] == []


def test_what_is_left_out_has_the_defaults_of_the_manual() -> None:
    policy = parse("thresholds: {accuracy: {min: 0.9}}\nregression:\n")

    assert policy.evaluation == EvaluationRule("test", "", 100)
    assert policy.regression == RegressionRule("champion", 0.05, True, (), 20, None)
    assert (policy.max_ece, policy.max_ratio, policy.max_bytes, policy.max_abs_diff) == (None,) * 4


GOOD = "thresholds: {accuracy: {min: 0.9}}\n"


@pytest.mark.parametrize(
    ("text", "field", "description"),
    [
        ("", "yaml", "is empty; docs/gates.md"),
        ("a: [", "yaml", "is no YAML that can be read"),
        ("- accuracy", "yaml", "is a list; write a mapping with evaluation, thresholds"),
        ("!!python/object/apply:os.system [x]", "yaml", "could not determine a constructor"),
        ("a: !!bool maybe", "yaml", "is no YAML that can be read"),
        (GOOD + "thresholds: {loss: {max: 1}}", "yaml", "has the key 'thresholds' twice"),
        ("[" * 3000, "yaml", "is no YAML that can be read"),
        ("#" * 30_000, "yaml", "at most 20000"),
        ("size: {max_bytes: 5}", "yaml.thresholds", "is missing; give at least one metric of accuracy"),
        (GOOD + "threshold: {}", "yaml.threshold", "is no key that there is; did you mean 'thresholds'"),
        (
            "thresholds: {acuracy: {min: 1}}",
            "yaml.thresholds.acuracy",
            "is no metric .* did you mean 'accuracy'",
        ),
        (
            "thresholds: {zzz: {min: 1}}",
            "yaml.thresholds.zzz",
            "is no metric .* use one of accuracy, macro_f1",
        ),
        ("thresholds: {accuracy: 0.9}", "yaml.thresholds.accuracy", "is 0.9; write a mapping with min, max"),
        ("thresholds: {accuracy: {}}", "yaml.thresholds.accuracy", "has no bound; give min, max or both"),
        ("thresholds: {accuracy: {mim: 1}}", "yaml.thresholds.accuracy.mim", "did you mean 'min'"),
        (
            "thresholds: {accuracy: {min: 95}}",
            "yaml.thresholds.accuracy.min",
            "is 95; write a number from 0 to 1",
        ),
        ("thresholds: {accuracy: {min: true}}", "yaml.thresholds.accuracy.min", "write a number"),
        ("thresholds: {accuracy: {min: .nan}}", "yaml.thresholds.accuracy.min", "is nan"),
        ("thresholds: {loss: {max: '1'}}", "yaml.thresholds.loss.max", "is the text '1'"),
        ("thresholds: {loss: {max: 1e-3}}", "yaml.thresholds.loss.max", "is the text '1e-3'"),
        ("thresholds: {loss: {min: 2, max: 1}}", "yaml.thresholds.loss", "has min 2.0 above max 1.0"),
        (GOOD + "evaluation: {split: 5}", "yaml.evaluation.split", "is 5; write a text"),
        (GOOD + "evaluation: {split: all}", "yaml.evaluation.split", "or '' for all examples"),
        (GOOD + "evaluation: {split: tset}", "yaml.evaluation.split", "write train, validation, test"),
        (GOOD + "evaluation: {dataset: flowers}", "yaml.evaluation.dataset", "is 'flowers'; write datasets/"),
        (
            GOOD + "evaluation: {minimum_examples: 0}",
            "yaml.evaluation.minimum_examples",
            "a whole number from 1",
        ),
        (GOOD + "evaluation: {minimum_examples: 1.5}", "yaml.evaluation.minimum_examples", "a whole number"),
        (GOOD + "regression: {alpha: 0}", "yaml.regression.alpha", "is 0; write a number from 1e-06 to 0.5"),
        (GOOD + "regression: {alias: A B}", "yaml.regression.alias", "is 'A B'; use a-z"),
        (GOOD + "regression: {by_label: 1}", "yaml.regression.by_label", "is 1; write true or false"),
        (
            GOOD + "regression: {attributes: scanner}",
            "yaml.regression.attributes",
            r"write a list .*\[scanner\]",
        ),
        (GOOD + "regression: {attributes: [a=b]}", r"yaml.regression.attributes[0]", "without '='"),
        (GOOD + "regression: {attributes: [a, a]}", r"yaml.regression.attributes[1]", "is 'a' again"),
        (GOOD + "regression: {max_drop: 2}", "yaml.regression.max_drop", "is 2; write a number"),
        (GOOD + "calibration: {}", "yaml.calibration", "has no bound; give max_ece"),
        (GOOD + "latency: {max_ratio: -1}", "yaml.latency.max_ratio", "is -1"),
        (GOOD + "size: {max_bytes: 10000000000000000000000}", "yaml.size.max_bytes", "too large a number"),
        (GOOD + "golden: 1", "yaml.golden", "is 1; write a mapping with max_abs_diff"),
    ],
)
def test_a_fault_is_named_by_its_place(text: str, field: str, description: str) -> None:
    found = faults(text)

    assert re.search(description, found[field])


def test_all_faults_are_told_at_once() -> None:
    found = faults("thresholds: {acuracy: {min: 1}, loss: {max: -1}}\nsice: {}\nregression: {alpha: 1}")

    assert set(found) == {
        "yaml.thresholds.acuracy",
        "yaml.thresholds.loss.max",
        "yaml.sice",
        "yaml.regression.alpha",
    }
