"""The servicer: to domain, call the use case, to proto."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import grpc
from slipway.ingestion.v1 import ingestion_pb2 as pb
from slipway.ingestion.v1 import ingestion_pb2_grpc
from slipway_runtime.errors import InvalidArgument
from slipway_runtime.rpc import timestamp

from slipway_ingestion import domain
from slipway_ingestion.usecases.commits import Commits, NewCommit
from slipway_ingestion.usecases.datasets import DatasetFields, Datasets, Repeat
from slipway_ingestion.usecases.erasures import Erasures, NewErasure
from slipway_ingestion.usecases.intake import Item
from slipway_ingestion.usecases.lineage import Lineage
from slipway_ingestion.usecases.predictions import ImportHeader, Predictions
from slipway_ingestion.usecases.reads import ExampleFilter, Reads
from slipway_ingestion.usecases.uploads import Header, Uploads

Context: TypeAlias = grpc.ServicerContext


class IngestionServicer(ingestion_pb2_grpc.IngestionServiceServicer):
    """slipway.ingestion.v1.IngestionService."""

    def __init__(
        self,
        *,
        datasets: Datasets,
        uploads: Uploads,
        predictions: Predictions,
        commits: Commits,
        reads: Reads,
        erasures: Erasures,
        lineage: Lineage,
    ) -> None:
        self._datasets = datasets
        self._uploads = uploads
        self._predictions = predictions
        self._commits = commits
        self._reads = reads
        self._erasures = erasures
        self._lineage = lineage

    def CreateDataset(self, request: pb.CreateDatasetRequest, context: Context) -> pb.Dataset:
        return _dataset(self._datasets.create(request.dataset_id, _fields(request.dataset), _repeat(request)))

    def GetDataset(self, request: pb.GetDatasetRequest, context: Context) -> pb.Dataset:
        return _dataset(self._datasets.get(request.name))

    def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:
        found, token = self._datasets.list(request.page_size, request.page_token)
        return pb.ListDatasetsResponse(datasets=map(_dataset, found), next_page_token=token)

    def UpdateDataset(self, request: pb.UpdateDatasetRequest, context: Context) -> pb.Dataset:
        dataset, paths = request.dataset, list(request.update_mask.paths)
        return _dataset(self._datasets.update(dataset.name, dataset.etag, _fields(dataset), paths))

    def CreateBranch(self, request: pb.CreateBranchRequest, context: Context) -> pb.Branch:
        made = self._datasets.create_branch(
            request.parent, request.branch_id, request.commit, _repeat(request)
        )
        return _branch(made)

    def GetBranch(self, request: pb.GetBranchRequest, context: Context) -> pb.Branch:
        return _branch(self._datasets.get_branch(request.name))

    def ListBranches(self, request: pb.ListBranchesRequest, context: Context) -> pb.ListBranchesResponse:
        found, token = self._datasets.list_branches(request.parent, request.page_size, request.page_token)
        return pb.ListBranchesResponse(branches=map(_branch, found), next_page_token=token)

    def UpdateBranch(self, request: pb.UpdateBranchRequest, context: Context) -> pb.Branch:
        branch, paths = request.branch, list(request.update_mask.paths)
        return _branch(self._datasets.move_branch(branch.name, branch.etag, branch.commit, paths))

    def UploadExamples(self, requests: Iterator[pb.UploadExamplesRequest], context: Context) -> pb.Upload:
        return _upload(self._uploads.receive(_header(requests), map(_item, requests)))

    def GetUpload(self, request: pb.GetUploadRequest, context: Context) -> pb.Upload:
        return _upload(self._uploads.get(request.name))

    def CreateCommit(self, request: pb.CreateCommitRequest, context: Context) -> pb.Commit:
        new = NewCommit(
            parent=request.parent,
            branch=request.branch,
            uploads=list(request.uploads),
            remove_keys=list(request.remove_keys),
            message=request.message,
            expected_head=request.expected_head,
        )
        return _commit(self._commits.create(new, _repeat(request)))

    def GetCommit(self, request: pb.GetCommitRequest, context: Context) -> pb.Commit:
        return _commit(self._commits.get(request.name))

    def ListCommits(self, request: pb.ListCommitsRequest, context: Context) -> pb.ListCommitsResponse:
        found, token = self._commits.history(
            request.parent, request.start, request.page_size, request.page_token
        )
        return pb.ListCommitsResponse(commits=map(_commit, found), next_page_token=token)

    def ListExamples(self, request: pb.ListExamplesRequest, context: Context) -> pb.ListExamplesResponse:
        which = ExampleFilter(request.split, request.label, request.key_prefix)
        rows, token, policy = self._reads.examples(
            request.parent, which, request.page_size, request.page_token
        )
        return pb.ListExamplesResponse(
            examples=[_example(row, policy) for row in rows], next_page_token=token
        )

    def DiffCommits(self, request: pb.DiffCommitsRequest, context: Context) -> pb.DiffCommitsResponse:
        page, policy = self._reads.diff(request.base, request.target, request.page_size, request.page_token)
        return pb.DiffCommitsResponse(
            changes=[_change(change, policy) for change in page.changes],
            next_page_token=page.next_token,
            ranges_read=page.ranges_read,
            ranges_total=page.ranges_total,
        )

    def GetCommitStatistics(self, request: Any, context: Context) -> pb.CommitStatistics:
        return pb.CommitStatistics(**domain.as_json(self._reads.statistics(request.name)))

    def ReadExamples(
        self, request: pb.ReadExamplesRequest, context: Context
    ) -> Iterator[pb.ReadExamplesResponse]:
        batches = self._reads.read(
            request.commit, request.split, list(request.keys), rows_only=request.rows_only
        )
        for batch in batches:
            examples = [
                pb.ExampleBytes(example=_example_in(row, split), data=data) for row, split, data in batch
            ]
            yield pb.ReadExamplesResponse(examples=examples)

    def ImportPredictions(
        self, requests: Iterator[pb.ImportPredictionsRequest], context: Context
    ) -> pb.PredictionImport:
        header = _import_header(requests)
        return _import(self._predictions.receive(header, map(_prediction, requests)))

    def CreateErasure(self, request: pb.CreateErasureRequest, context: Context) -> pb.Erasure:
        new = NewErasure(request.parent, request.key, request.blob, request.reason)
        return _erasure(self._erasures.create(new, _repeat(request)))

    def GetErasure(self, request: pb.GetErasureRequest, context: Context) -> pb.Erasure:
        return _erasure(self._erasures.get(request.name))

    def ListErasures(self, request: pb.ListErasuresRequest, context: Context) -> pb.ListErasuresResponse:
        past = request.after_number if request.HasField("after_number") else None
        found, token = self._erasures.list(request.parent, past, request.page_size, request.page_token)
        return pb.ListErasuresResponse(erasures=map(_erasure, found), next_page_token=token)

    def CheckErased(self, request: pb.CheckErasedRequest, context: Context) -> pb.CheckErasedResponse:
        found = self._erasures.check(request.parent, [(one.key, one.blob) for one in request.examples])
        erased = [pb.ErasedExample(index=place, erasure=name) for place, name in found]
        return pb.CheckErasedResponse(erased=erased)

    def ListChildren(self, request: pb.ListChildrenRequest, context: Context) -> pb.ListChildrenResponse:
        names, token = self._lineage.children(request.name, request.page_size, request.page_token)
        return pb.ListChildrenResponse(names=names, next_page_token=token)

    def ListParents(self, request: pb.ListParentsRequest, context: Context) -> pb.ListParentsResponse:
        names, token = self._lineage.parents(request.name, request.page_size, request.page_token)
        return pb.ListParentsResponse(names=names, next_page_token=token)


def _repeat(request: Any) -> Repeat:
    return Repeat(request.request_id, request.SerializeToString(deterministic=True))


def _fields(dataset: pb.Dataset) -> DatasetFields:
    policy = None
    if dataset.HasField("split_policy"):
        sent = dataset.split_policy
        policy = domain.SplitPolicy(sent.train_percent, sent.validation_percent, sent.test_percent, sent.salt)
    return DatasetFields(dataset.display_name, dataset.description, policy)


def _header(requests: Iterator[pb.UploadExamplesRequest]) -> Header:
    first = next(requests, None)
    if first is None or first.WhichOneof("payload") != "header":
        raise InvalidArgument.field("header", "is missing; send it first, with the data set's name")
    header = first.header
    return Header(header.parent, header.request_id, header.label_source)


def _item(request: pb.UploadExamplesRequest) -> Item:
    if request.WhichOneof("payload") != "item":
        raise InvalidArgument.field("item", "is missing; after the header every message carries one")
    item = request.item
    row = domain.Row(
        key=item.key,
        label=item.label,
        label_source=item.label_source,
        group=item.group,
        attributes=domain.attributes_of(item.attributes),
    )
    return Item(row, item.data if item.WhichOneof("content") == "data" else None, item.blob)


def _import_header(requests: Iterator[pb.ImportPredictionsRequest]) -> ImportHeader:
    first = next(requests, None)
    if first is None or first.WhichOneof("payload") != "header":
        raise InvalidArgument.field("header", "is missing; send it first, with the data set's name")
    sent = first.header
    return ImportHeader(sent.parent, sent.branch, sent.message, sent.request_id, sent.label_source)


def _prediction(request: pb.ImportPredictionsRequest) -> Item:
    if request.WhichOneof("payload") != "item":
        raise InvalidArgument.field("item", "is missing; after the header every message carries one")
    item = request.item
    attributes = domain.attributes_of(item.attributes)
    row = domain.Row(key=item.key, label=item.label, group=item.group, attributes=attributes)
    return Item(row, item.data, "")


def _dataset(dataset: domain.Dataset) -> pb.Dataset:
    policy = dataset.policy
    return pb.Dataset(
        name=dataset.name,
        display_name=dataset.display_name,
        description=dataset.description,
        create_time=timestamp(dataset.create_time),
        update_time=timestamp(dataset.update_time),
        etag=dataset.etag,
        creator=dataset.creator,
        split_policy=pb.SplitPolicy(
            train_percent=policy.train,
            validation_percent=policy.validation,
            test_percent=policy.test,
            salt=policy.salt,
        ),
    )


def _branch(branch: domain.Branch) -> pb.Branch:
    return pb.Branch(
        name=branch.name,
        commit=f"datasets/{branch.dataset}/commits/{branch.commit}",
        etag=branch.etag,
        update_time=timestamp(branch.update_time),
    )


def _upload(upload: domain.Upload) -> pb.Upload:
    return pb.Upload(
        name=upload.name,
        accepted_count=upload.accepted_count,
        accepted_bytes=upload.accepted_bytes,
        new_bytes=upload.new_bytes,
        new_objects=upload.new_objects,
        refused=[pb.RefusedItem(key=r.key, reason=r.reason, message=r.message) for r in upload.refused],
        refused_count=upload.refused_count,
        create_time=timestamp(upload.create_time),
    )


def _import(made: domain.PredictionImport) -> pb.PredictionImport:
    return pb.PredictionImport(
        commit=made.commit,
        imported_count=made.imported_count,
        repeated_count=made.repeated_count,
        refused=[pb.RefusedItem(key=r.key, reason=r.reason, message=r.message) for r in made.refused],
        refused_count=made.refused_count,
    )


def _erasure(erasure: domain.Erasure) -> pb.Erasure:
    return pb.Erasure(
        name=erasure.name,
        reason=erasure.reason,
        creator=erasure.creator,
        create_time=timestamp(erasure.create_time),
        finish_time=timestamp(erasure.finish_time),
        state=pb.Erasure.SUCCEEDED if erasure.number else pb.Erasure.RUNNING,
        number=erasure.number,
        commit_count=erasure.commit_count,
        deleted_blob_count=erasure.deleted_blob_count,
        kept_blob_count=erasure.kept_blob_count,
        error=erasure.error,
    )


def _commit(commit: domain.Commit) -> pb.Commit:
    return pb.Commit(
        name=commit.name,
        parent=commit.parent_name,
        author=commit.author,
        message=commit.message,
        create_time=timestamp(commit.create_time),
        example_count=commit.example_count,
        total_bytes=commit.total_bytes,
        content_digest=commit.content,
        new_objects=commit.new_objects,
        new_bytes=commit.new_bytes,
        erased_count=commit.erased_count,
        erased_bytes=commit.erased_bytes,
        erasure_revision=commit.erasure_revision,
    )


def _example(row: domain.Row, policy: domain.SplitPolicy) -> pb.Example:
    return _example_in(row, policy.split(row.split_group))


def _example_in(row: domain.Row, split: str) -> pb.Example:
    return pb.Example(
        key=row.key,
        blob=row.blob,
        size_bytes=row.size,
        media_type=row.media_type,
        label=row.label,
        label_source=row.label_source,
        group=row.group,
        split=split,
        attributes=dict(row.attributes),
        width=row.width,
        height=row.height,
    )


def _change(change: domain.Change, policy: domain.SplitPolicy) -> pb.ExampleChange:
    if change.before is None:
        kind = pb.ExampleChange.ADDED
    else:
        kind = pb.ExampleChange.CHANGED if change.after is not None else pb.ExampleChange.REMOVED
    return pb.ExampleChange(
        kind=kind,
        key=change.key,
        before=_example(change.before, policy) if change.before else None,
        after=_example(change.after, policy) if change.after else None,
    )
