"""crowd-kit's Dawid-Skene, imported without the rest of its package, which wants transformers and nltk."""

import importlib
import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
from slipway_labeling.engine.answers import UNKNOWN, Answers, FloatArray, IntArray


def dawid_skene(answers: Answers, gold: IntArray | None = None) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return crowd-kit's posterior (T, K), priors (K,) and confusion (A, K, K) as ours."""
    frame = pd.DataFrame({"task": answers.task, "worker": answers.annotator, "label": answers.label})
    known = None
    if gold is not None:
        known = pd.Series(gold)[gold != UNKNOWN]
    fitted = _module().DawidSkene(n_iter=100, tol=1e-5).fit(frame, known)
    classes = range(answers.classes)
    posterior = fitted.probas_.reindex(index=range(answers.tasks), columns=classes).to_numpy()
    priors = fitted.priors_.reindex(classes, fill_value=0).to_numpy()
    confusion = np.zeros((answers.annotators, answers.classes, answers.classes))
    for (annotator, label), row in fitted.errors_.iterrows():
        confusion[annotator, row.index.to_numpy(int), label] = row.to_numpy()
    return posterior, priors, confusion


def _module() -> types.ModuleType:
    """Import the one module; its parents are entered as plain folders so that their siblings stay out.

    Raises ModuleNotFoundError where crowd-kit is not installed: `make setup` installs it.
    """
    spec = importlib.util.find_spec("crowdkit")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("crowd-kit, the oracle of these tests, is not installed; run `make setup`")
    root = Path(spec.submodule_search_locations[0])
    for folder in ("aggregation", "aggregation/classification"):
        name = "crowdkit." + folder.replace("/", ".")
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [str(root / folder)]
            sys.modules[name] = package
    return importlib.import_module("crowdkit.aggregation.classification.dawid_skene")
