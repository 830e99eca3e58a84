"""The servicer: the parts put together."""

from slipway.labeling.v1 import labeling_pb2, labeling_pb2_grpc

from slipway_labeling.api.annotators import AnnotatorsPart
from slipway_labeling.api.files import FilesPart
from slipway_labeling.api.lineage import LineagePart
from slipway_labeling.api.projects import ProjectsPart
from slipway_labeling.api.quality import QualityPart
from slipway_labeling.api.reviews import ReviewsPart
from slipway_labeling.api.scores import ScoresPart
from slipway_labeling.api.snapshots import SnapshotsPart
from slipway_labeling.api.tasks import TasksPart
from slipway_labeling.api.work import WorkPart
from slipway_labeling.usecases.annotators import Annotators
from slipway_labeling.usecases.files import Files
from slipway_labeling.usecases.lineage import Lineage
from slipway_labeling.usecases.projects import Projects
from slipway_labeling.usecases.quality import Quality
from slipway_labeling.usecases.reviews import Reviews
from slipway_labeling.usecases.scores import Scores
from slipway_labeling.usecases.snapshots import Snapshots
from slipway_labeling.usecases.tasks import Tasks
from slipway_labeling.usecases.work import Work

SERVICE = labeling_pb2.DESCRIPTOR.services_by_name["LabelingService"].full_name


class Servicer(
    ProjectsPart,
    TasksPart,
    WorkPart,
    ReviewsPart,
    AnnotatorsPart,
    QualityPart,
    ScoresPart,
    SnapshotsPart,
    FilesPart,
    LineagePart,
    labeling_pb2_grpc.LabelingServiceServicer,
):
    """slipway.labeling.v1.LabelingService; each part brings the methods of its nouns."""

    def __init__(
        self,
        *,
        projects: Projects,
        tasks: Tasks,
        work: Work,
        reviews: Reviews,
        annotators: Annotators,
        quality: Quality,
        scores: Scores,
        snapshots: Snapshots,
        files: Files,
        lineage: Lineage,
    ) -> None:
        self._projects = projects
        self._tasks = tasks
        self._work = work
        self._reviews = reviews
        self._annotators = annotators
        self._quality = quality
        self._scores = scores
        self._snapshots = snapshots
        self._files = files
        self._lineage = lineage
