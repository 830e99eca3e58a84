"""What a process is told at its start: one JSON file, with no token and no address in it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from blake3 import blake3


@dataclass(frozen=True, kw_only=True)
class Told:
    """What every process is told.

    Attributes:
        parent_pid: Process to die with.
        threads: Of its engine; another number changes the last bits.
    """

    parent_pid: int
    threads: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read it back."""
        return cls(**json.loads(path.read_text()))

    def write(self, path: Path) -> None:
        """Write it for the process."""
        path.write_text(json.dumps(asdict(self)))


@dataclass(frozen=True, kw_only=True)
class ScoringSpec(Told):
    """One attempt at a scoring job.

    Attributes:
        version: Folder of the bundle that scores.
        champion: Folder of the bundle that scores beside it; empty for none.
    """

    version: str
    champion: str


@dataclass(frozen=True, kw_only=True)
class Spec(Told):
    """One attempt at a training job.

    Attributes:
        code: Folder of the task's code.
        entry_point: `file.py:ClassName` in it.
        hyperparameters: As given; the rest take their defaults.
        seed: Of everything random.
        checkout: Folder of the checked-out commit.
        folder: For checkpoints and the bundle.
        checkpoint_s: Seconds between two checkpoints.
        facts: Go into the bundle's manifest as they are (run, dataset commit, code digest, …).
    """

    code: str
    entry_point: str
    hyperparameters: dict[str, Any]
    seed: int
    checkout: str
    folder: str
    checkpoint_s: float
    facts: dict[str, Any]

    def config_digest(self) -> str:
        """Return the digest of all that makes the run what it is, and of nothing that may move."""
        parts = [self.entry_point, self.hyperparameters, self.seed, self.threads]
        parts += [self.facts.get(name) for name in ("dataset_commit", "code_digest")]
        return blake3(json.dumps(parts, sort_keys=True).encode()).hexdigest()
