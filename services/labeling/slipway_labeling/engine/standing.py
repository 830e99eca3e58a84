"""The answers of one project that stand, in the words of its schema, and the consensus of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from slipway_labeling.engine import consensus
from slipway_labeling.engine.answers import (
    UNKNOWN,
    Answers,
    BoolArray,
    FloatArray,
    IntArray,
    binary_problems,
)

# A method that makes one label of several answers, given known labels.
Method = Callable[[Answers, IntArray | None], consensus.Consensus]


@dataclass(frozen=True)
class Schema:
    """What may be answered: one of `labels`, or any set of them, written joined by `separator`."""

    labels: tuple[str, ...]
    multiple: bool
    separator: str


@dataclass(frozen=True)
class Standing:
    """Who answered what, by index.

    `words` are the classes: the schema's labels, or for a multi-label schema each set of labels that occurs.
    `tasks` (T,) are the tasks' serials in ascending order; `known` (T,) is the class of a gold or reviewed
    task, else UNKNOWN. `answers` holds the answers over these.
    """

    schema: Schema
    words: tuple[str, ...]
    tasks: IntArray
    annotators: tuple[str, ...]
    answers: Answers
    known: IntArray


@dataclass(frozen=True)
class Labelled:
    """A consensus in words: `label` (T,) joined, None where there is none; `confidence` (T,), `tied` (T,)."""

    label: list[str | None]
    confidence: FloatArray
    tied: BoolArray
    answer_count: int


def standing(schema: Schema, rows: Sequence[tuple[int, str, str, str | None]]) -> Standing:
    """Return the answers in rows of (serial, annotator, labels joined, known labels joined or None)."""
    words = schema.labels
    if schema.multiple:
        words = tuple(sorted({row[2] for row in rows} | {row[3] for row in rows if row[3] is not None}))
    places = {word: place for place, word in enumerate(words)}
    tasks, task = np.unique(np.array([row[0] for row in rows], np.int64), return_inverse=True)
    annotators = tuple(sorted({row[1] for row in rows}))
    people = {id: place for place, id in enumerate(annotators)}
    known = np.full(tasks.size, UNKNOWN, np.int64)
    known[task] = [UNKNOWN if row[3] is None else places[row[3]] for row in rows]
    answers = Answers(
        task=task,
        annotator=np.array([people[row[1]] for row in rows], np.int64),
        label=np.array([places[row[2]] for row in rows], np.int64),
        tasks=tasks.size,
        annotators=len(annotators),
        # Two classes at least: one alone leaves nothing to err about.
        classes=max(len(words), 2),
    )
    return Standing(schema, words, tasks, annotators, answers, known)


def labelled(found: Standing, method: Method, left_out: Sequence[str] = ()) -> Labelled:
    """Return the consensus of the answers, without those of the annotators `left_out`.

    A multi-label answer is one binary problem per label; the confidence is then the product over the labels
    (taken as independent), and one tied label leaves the task tied.
    """
    answers, out = found.answers, set(left_out)
    people = np.array([id not in out for id in found.annotators], bool)
    kept = people[answers.annotator]
    task, annotator, label = answers.task[kept], answers.annotator[kept], answers.label[kept]
    counts = {"tasks": answers.tasks, "annotators": answers.annotators}
    if not found.schema.multiple:
        one = method(Answers(task, annotator, label, classes=answers.classes, **counts), found.known)
        words: list[str | None] = [
            None if place == UNKNOWN or tied else found.words[place]
            for place, tied in zip(one.label.tolist(), one.tied.tolist(), strict=True)
        ]
        best = np.nan_to_num(one.posterior.max(axis=1, initial=0.0))
        return Labelled(words, best, one.tied, int(kept.sum()))
    chosen = _members(found)  # (W, L)
    sets, confidence = np.zeros((answers.tasks, len(found.schema.labels)), bool), np.ones(answers.tasks)
    tied, empty = np.zeros(answers.tasks, bool), np.zeros(answers.tasks, bool)
    problems = binary_problems(task, annotator, chosen[label], **counts)
    for place, problem in enumerate(problems):
        known = np.where(found.known == UNKNOWN, UNKNOWN, chosen[found.known, place])
        one = method(problem, known)
        sets[:, place], empty = one.label == 1, one.label == UNKNOWN
        confidence *= np.nan_to_num(one.posterior.max(axis=1, initial=0.0))
        tied |= one.tied
    labels, separator = np.array(found.schema.labels, object), found.schema.separator
    joined = [
        None if bare else separator.join(labels[row])
        for row, bare in zip(sets, (empty | tied).tolist(), strict=True)
    ]
    return Labelled(joined, confidence, tied, int(kept.sum()))


def _members(found: Standing) -> BoolArray:
    """Return which labels each word names, (W, L)."""
    named = [set(word.split(found.schema.separator)) for word in found.words]
    return np.array([[label in word for label in found.schema.labels] for word in named], bool).reshape(
        len(named), len(found.schema.labels)
    )
