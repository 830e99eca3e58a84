"""Hyperparameters: what a task declares, read with and without running it."""

from pathlib import Path

import pytest
from slipway.task import DataShape, HyperparameterError, Task, hyper
from slipway.task.hyper import Value, declared, resolve

SOURCE = """
import slipway.task
from slipway.task import Task, hyper
BIG = 9

class Parent(Task):
    width: int = hyper(8, low=1, high=64)
    lr: float = hyper(0.5, low=0.1, high=1)

class Child(Parent):
    activation: str = hyper("relu", choices=["relu", "tanh"])
    bias: bool = hyper(True)
    depth: int = hyper(BIG)
    note = "no hyperparameter"
"""


class Child(Task):
    width: int = hyper(8, low=1, high=64)
    activation: str = hyper("relu", choices=["relu", "tanh"])
    bias: bool = hyper(True)


def an_example() -> Path:
    """Return the path of a task that users are shown."""
    return next((Path(__file__).parents[4] / "examples").glob("*/task.py"))


SHAPE = DataShape(classes=("a", "b"), height=8, width=8, channels=1)


def test_the_source_tells_what_the_class_declares_parents_included() -> None:
    found = declared(SOURCE, "Child")

    assert list(found) == [
        "epochs",
        "batch_size",
        "lr",
        "weight_decay",
        "width",
        "activation",
        "bias",
        "depth",
    ]
    assert (found["lr"].default, found["lr"].low) == (0.5, 0.1)
    assert found["activation"].choices == ("relu", "tanh")
    assert found["depth"].default is None


def test_the_source_of_an_example_tells_the_same_as_its_class() -> None:
    path = an_example()
    source = path.read_text()
    names: dict[str, object] = {}
    exec(compile(source, str(path), "exec"), names)

    assert names["SmallImages"].declared == declared(source, "SmallImages")  # type: ignore[attr-defined]


def test_an_unknown_class_names_those_there_are() -> None:
    with pytest.raises(LookupError, match="no class 'Chidl'; classes: Parent, Child"):
        declared(SOURCE, "Chidl")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("width", 65, "hyperparameter 'width' is 65, out of range; choose a value from 1 to 64"),
        ("width", 1.5, "'width' is 1.5, which is no int"),
        ("width", True, "'width' is True, which is no int"),
        ("width", "8", "'width' is '8', which is no int"),
        ("lr", float("nan"), "'lr' is nan, which is no float"),
        ("activation", "gelu", "'activation' is 'gelu'; choose one of 'relu', 'tanh'"),
        ("bias", 1, "'bias' is 1, which is no bool"),
        ("wdith", 8, "declares no hyperparameter 'wdith'; near: width"),
    ],
)
def test_a_refused_value_names_field_value_and_remedy(name: str, value: object, why: str) -> None:
    with pytest.raises(HyperparameterError) as caught:
        Child(SHAPE, {name: value})

    assert why in str(caught.value)
    assert caught.value.field == name


def test_defaults_fill_in_and_whole_numbers_become_ints() -> None:
    values: dict[str, Value] = resolve(Child.declared, {"width": 16.0})

    assert values == {
        "epochs": 10,
        "batch_size": 64,
        "lr": 1e-3,
        "weight_decay": 0.0,
        "width": 16,
        "activation": "relu",
        "bias": True,
    }
    assert isinstance(values["width"], int)
    assert Child(SHAPE, {"width": 16.0}).width == 16


def test_reading_declarations_does_not_load_torch() -> None:
    import subprocess
    import sys

    code = "import sys; from slipway.task.hyper import declared;"
    code += " declared(open(sys.argv[1]).read(), 'SmallImages')"
    code += "; sys.exit('torch' in sys.modules)"
    path = an_example()

    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 0
