"""What a model version says of itself: classes, outputs, and what inputs and answers looked like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slipway_monitoring.domain.answers import PROBABILITIES


@dataclass(frozen=True)
class Profile:
    """The signature and the reference profile of a version's bundle, as read from JSON."""

    model_version: str
    signature: Mapping[str, Any]
    reference: Mapping[str, Any]

    @property
    def classes(self) -> Sequence[str]:
        """Names of its classes, in the order of its scores; empty when it has none."""
        return [str(name) for name in self.signature.get("classes", ())]

    @property
    def scored(self) -> str:
        """Name of its output with a score per class."""
        names = [str(output["name"]) for output in self.signature.get("outputs", ())]
        return names[0] if names and PROBABILITIES not in names else PROBABILITIES
