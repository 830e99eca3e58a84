"""Who answered what: the answers of annotators as three arrays."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

UNKNOWN = -1


class BadAnswers(ValueError):
    """Answers, gold labels or priors that do not fit together; the message names the value and the remedy."""


@dataclass(frozen=True)
class Answers:
    """One class per task and annotator, the last revision only.

    `task`, `annotator` and `label` are (n,) indices into `tasks` tasks, `annotators` annotators and `classes`
    classes. Raises BadAnswers for an index outside its range or two answers of one annotator to one task.
    """

    task: IntArray
    annotator: IntArray
    label: IntArray
    tasks: int
    annotators: int
    classes: int

    def __post_init__(self) -> None:
        for name in ("task", "annotator", "label"):
            # In int64, for products of two indices leave int32 behind.
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.int64))
        if not self.task.shape == self.annotator.shape == self.label.shape == (self.task.size,):
            shapes = f"{self.task.shape}, {self.annotator.shape} and {self.label.shape}"
            raise BadAnswers(
                f"task, annotator and label have the shapes {shapes}; give one value each per answer"
            )
        for name, values, count in (
            ("task", self.task, self.tasks),
            ("annotator", self.annotator, self.annotators),
            ("label", self.label, self.classes),
        ):
            outside = values[(values < 0) | (values >= count)]
            if outside.size:
                raise BadAnswers(
                    f"{name} {outside[0]} is outside 0..{count - 1}; give indices below the count"
                )
        pairs, times = np.unique(self.task * self.annotators + self.annotator, return_counts=True)
        if (times > 1).any():
            task, annotator = divmod(int(pairs[times > 1][0]), self.annotators)
            raise BadAnswers(f"annotator {annotator} answers task {task} twice; give the last revision only")

    @property
    def per_task(self) -> IntArray:
        """How many answers each task has, (T,)."""
        return np.bincount(self.task, minlength=self.tasks)

    @property
    def votes(self) -> FloatArray:
        """How many answers name each class, (T, K)."""
        return self.weighted_votes(np.ones(self.task.size))

    def weighted_votes(self, weight: FloatArray) -> FloatArray:
        """The sum of `weight` (n,) over the answers that name each class, (T, K)."""
        cells = np.bincount(
            self.task * self.classes + self.label, weights=weight, minlength=self.tasks * self.classes
        )
        return cells.reshape(self.tasks, self.classes).astype(np.float64, copy=False)


def binary_problems(
    task: IntArray, annotator: IntArray, chosen: BoolArray, *, tasks: int, annotators: int
) -> Iterator[Answers]:
    """Split multi-label answers into one binary problem per label: class 1 is chosen, class 0 is not.

    `chosen` is (n, L): which labels each answer names (binary relevance: Tsoumakas & Katakis, IJDWM 2007).
    Yields L times `Answers` of two classes, in the order of the labels.
    """
    for column in chosen.T:
        yield Answers(task, annotator, column.astype(np.int64), tasks, annotators, 2)


def known_labels(gold: IntArray | None, answers: Answers) -> IntArray:
    """Return the known label of each task, (T,), UNKNOWN where there is none.

    Raises BadAnswers where `gold` has another length or a label outside the classes.
    """
    if gold is None:
        return np.full(answers.tasks, UNKNOWN, np.int64)
    if gold.shape != (answers.tasks,):
        raise BadAnswers(f"gold has the shape {gold.shape}; give one label per task, {answers.tasks} in all")
    outside = gold[(gold < UNKNOWN) | (gold >= answers.classes)]
    if outside.size:
        raise BadAnswers(
            f"gold label {outside[0]} is outside 0..{answers.classes - 1}; {UNKNOWN} means unknown"
        )
    return gold
