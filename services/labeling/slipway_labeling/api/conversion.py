"""Between proto and domain."""

from slipway.labeling.v1 import labeling_pb2 as pb
from slipway_runtime.errors import InvalidArgument
from slipway_runtime.rpc import timestamp

from slipway_labeling.domain import projects as domain
from slipway_labeling.domain import tasks
from slipway_labeling.domain.projects import Labels


def to_answer(labels: Labels | None) -> pb.Answer | None:
    """Return an answer; None stays None."""
    return None if labels is None else pb.Answer(choice=pb.Choice(labels=labels))


def from_answer(answer: pb.Answer, field_name: str = "answer") -> Labels:
    """Return the labels of an answer as they were sent.

    Raises:
        InvalidArgument: It is of no kind.
    """
    if answer.WhichOneof("kind") != "choice":
        raise InvalidArgument.field(f"{field_name}.choice", "is missing; send the labels chosen")
    return tuple(answer.choice.labels)


def to_project(project: domain.Project) -> pb.Project:
    """Return a project."""
    spec, rule = project.spec, project.spec.pause_rule
    return pb.Project(
        name=project.name,
        display_name=spec.display_name,
        dataset=spec.dataset,
        schema=pb.LabelSchema(
            version=spec.schema.version,
            classification=pb.Classification(labels=spec.schema.labels, multiple=spec.schema.multiple),
            instructions=spec.schema.instructions,
        ),
        overlap=spec.overlap,
        lease_s=spec.lease_s,
        gold_percent=spec.gold_percent,
        prelabel_percent=spec.prelabel_percent,
        pause_rule=pb.PauseRule(**rule.__dict__),
        consensus_method=str(spec.consensus_method),
        task_counts=project.task_counts,
        annotation_count=project.annotation_count,
        etag=project.etag,
        create_time=timestamp(project.create_time),
        update_time=timestamp(project.update_time),
        creator=project.creator,
    )


def from_project(project: pb.Project) -> domain.ProjectSpec:
    """Return what a project is asked to be; zeros are the defaults that the proto names."""
    default, rule, choice = domain.PauseRule(), project.pause_rule, project.schema.classification
    return domain.ProjectSpec(
        display_name=project.display_name,
        dataset=project.dataset,
        schema=domain.Schema(tuple(choice.labels), choice.multiple, project.schema.instructions),
        overlap=project.overlap or 1,
        lease_s=project.lease_s or 600,
        gold_percent=project.gold_percent,
        prelabel_percent=project.prelabel_percent,
        pause_rule=domain.PauseRule(
            max_error_rate=rule.max_error_rate or default.max_error_rate,
            confidence=rule.confidence or default.confidence,
            min_answers=rule.min_answers or default.min_answers,
            report_only=rule.report_only,
        ),
        consensus_method=_method(project.consensus_method),
    )


def _method(value: int) -> domain.ConsensusMethod:
    if value not in pb.ConsensusMethod.values():
        raise InvalidArgument.field(
            "project.consensus_method", f"is {value}, which is no method; leave it out"
        )
    return domain.ConsensusMethod(pb.ConsensusMethod.Name(value or pb.DAWID_SKENE))


def to_task(task: tasks.Task) -> pb.Task:
    """Return a task."""
    return pb.Task(
        name=task.name,
        key=task.key,
        dataset_commit=task.dataset_commit,
        blob=task.blob,
        media_type=task.media_type,
        state=str(task.state),
        priority=task.priority,
        overlap=task.overlap,
        answer_count=task.answer_count,
        flag_count=task.flag_count,
        gold=to_answer(task.gold),
        consensus=to_answer(task.consensus),
        consensus_confidence=task.consensus_confidence,
        reviewed=to_answer(task.reviewed),
        reviewer=task.reviewer,
        review_comment=task.review_comment,
        prelabel=to_answer(task.prelabel),
        prelabel_version=task.prelabel_version,
        create_time=timestamp(task.create_time),
    )


def to_assignment(assignment: tasks.Assignment) -> pb.Assignment:
    """Return an assignment."""
    return pb.Assignment(
        name=assignment.name,
        annotator=f"annotators/{assignment.annotator}",
        state=str(assignment.state),
        lease_time=timestamp(assignment.lease_time),
        prelabel=to_answer(assignment.prelabel),
        schema_version=assignment.schema_version,
        key=assignment.key,
        media_type=assignment.media_type,
        claim_time=timestamp(assignment.claim_time),
        comment=assignment.comment,
    )


def to_annotation(annotation: tasks.Annotation) -> pb.Annotation:
    """Return an annotation."""
    return pb.Annotation(
        name=annotation.name,
        task=annotation.task_name,
        assignment=annotation.assignment_name,
        annotator=f"annotators/{annotation.annotator}",
        answer=to_answer(annotation.labels),
        revision=annotation.revision,
        withdrawn=annotation.withdrawn,
        current=annotation.current,
        lease_ms=annotation.lease_ms,
        lead_ms=annotation.lead_ms,
        prelabel_shown=annotation.prelabel_shown,
        schema_version=annotation.schema_version,
        create_time=timestamp(annotation.create_time),
        key=annotation.key,
    )


def to_annotator(annotator: tasks.Annotator) -> pb.Annotator:
    """Return an annotator's figures."""
    return pb.Annotator(
        name=annotator.name,
        answer_count=annotator.answer_count,
        skip_count=annotator.skip_count,
        flag_count=annotator.flag_count,
        gold_count=annotator.gold_count,
        gold_correct_count=annotator.gold_correct_count,
        error_rate=annotator.error_rate,
        error_rate_low=annotator.error_rate_low,
        error_rate_high=annotator.error_rate_high,
        careless=annotator.careless,
        paused=annotator.paused,
        pause_reason=annotator.pause_reason,
        median_lead_ms=annotator.median_lead_ms,
        labels=annotator.labels,
        confusion_matrix=annotator.confusion,
    )
