"""The passes in which two models are timed favour neither."""

from itertools import pairwise
from typing import Any

import numpy as np
from slipway_training.engine import scoring


class Noted:
    """Notes that it ran."""

    def __init__(self, name: str, ran: list[str]) -> None:
        self._name, self._ran = name, ran

    def run(self, images: Any) -> None:
        self._ran.append(self._name)


def test_each_model_is_timed_as_often_after_itself_as_after_the_other() -> None:
    ran: list[str] = []

    took = scoring._pass([Noted("A", ran), Noted("B", ran)], [np.zeros(1)] * 2)  # type: ignore[list-item]

    counted = list(pairwise(ran))[1:]
    assert {pair: counted.count(pair) for pair in counted} == {
        ("A", "A"): 3, ("A", "B"): 3, ("B", "A"): 3, ("B", "B"): 3,
    }  # fmt: skip
    assert len(took) == 2
