"""Consensus, agreement, and how far answers can be trusted."""

from dataclasses import dataclass

from slipway_labeling.domain.projects import ConsensusMethod, Labels
from slipway_labeling.domain.tasks import Annotator

# Confusion matrices of a report hold at most this many numbers together; GetAnnotator tells each.
MAX_CONFUSIONS = 100_000
MAX_PAIRS = 500
MAX_ANNOTATORS = 1_000
# Classes above which no confusion matrix is kept.
MAX_CLASSES = 100


@dataclass(frozen=True)
class Figures:
    """What a judgement says of one annotator; `error_rate` is -1 where nothing judges the answers."""

    id: str
    judged_count: int
    error_rate: float
    error_rate_low: float
    error_rate_high: float
    probability: float
    careless: bool
    labels: Labels
    confusion: tuple[float, ...]


@dataclass(frozen=True)
class Decided:
    """The consensus of one task: its labels, joined."""

    task: int
    label: str
    confidence: float


@dataclass(frozen=True)
class Computed:
    """What a computation of the consensus found."""

    method: ConsensusMethod
    task_count: int
    tie_count: int
    answer_count: int
    mean_confidence: float
    annotators: tuple[Annotator, ...]
    paused: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; nan with a reason where it is not defined."""

    value: float
    low: float
    high: float
    count: int
    undefined_reason: str = ""


@dataclass(frozen=True)
class PairAgreement:
    """Cohen's kappa of two annotators."""

    first: str
    second: str
    kappa: Estimate


@dataclass(frozen=True)
class Shown:
    """Answers to tasks with a pre-label: how many, and how many equal it, by whether it was shown."""

    shown: int
    shown_equal: int
    hidden: int
    hidden_equal: int


@dataclass(frozen=True)
class QualityReport:
    """How far the answers of a project can be trusted."""

    percent_agreement: Estimate
    fleiss_kappa: Estimate
    krippendorff_alpha: Estimate
    pairs: tuple[PairAgreement, ...]
    annotators: tuple[Annotator, ...]
    prelabel_bias: Estimate
