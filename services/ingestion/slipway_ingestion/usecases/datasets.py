"""Data sets and branches."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from blake3 import blake3
from slipway_runtime.db import Database, PageToken, once, page_size
from slipway_runtime.errors import Aborted, AlreadyExists, InvalidArgument, NotFound
from slipway_runtime.identity import current_caller

from slipway_ingestion.domain import (
    Branch,
    Commit,
    Dataset,
    SplitPolicy,
    check_digest,
    check_id,
    check_policy,
    check_text,
    name_part,
)
from slipway_ingestion.engine.ranges import Metarange
from slipway_ingestion.store import Store
from slipway_ingestion.usecases.content import Content, Cost

MAIN = "main"
_KNOWN = 1000
_CHANGEABLE = ("display_name", "description")


@dataclass(frozen=True)
class Repeat:
    """What makes a repeat recognisable: the request_id and the request's bytes."""

    request_id: str
    request: bytes


@dataclass(frozen=True)
class DatasetFields:
    """What a caller says of a data set."""

    display_name: str
    description: str
    policy: SplitPolicy | None = None


class Datasets:
    """The verbs over data sets and branches."""

    def __init__(self, *, database: Database, content: Content) -> None:
        self._database = database
        self._content = content

    def create(self, id: str, fields: DatasetFields, repeat: Repeat) -> Dataset:
        """Create a data set with a branch `main` that points at the empty commit.

        Raises:
            AlreadyExists: The id is taken.
        """
        check_id("dataset_id", id)
        check_text("dataset.display_name", fields.display_name)
        check_text("dataset.description", fields.description)
        policy = check_policy(fields.policy)
        empty = self._content.keep_metarange(Metarange(()), Cost())
        author = current_caller().subject
        with self._database.transaction() as connection:
            store = Store(connection)

            def effect() -> Dataset:
                made = store.add_dataset(id, fields.display_name, fields.description, policy, author)
                if made is None:
                    raise AlreadyExists("ALREADY_EXISTS", f"datasets/{id} is there already; use it")
                first = first_commit(id, empty, author, made.create_time)
                store.add_commit(first)
                store.add_branch(id, MAIN, first.digest)
                return made

            return once(
                connection,
                request_id=repeat.request_id,
                method="CreateDataset",
                request=repeat.request,
                answer=Dataset,
                effect=effect,
            )

    def get(self, name: str) -> Dataset:
        """Return one data set."""
        (id,) = name_part(name, "datasets")
        with self._database.transaction() as connection:
            return dataset_of(Store(connection), id)

    def list(self, size: int, token: str) -> tuple[Sequence[Dataset], str]:
        """Return a page of data sets."""
        limit, tokens = page_size(size), PageToken(("datasets",))
        after = tokens.decode(token) or [""]
        with self._database.transaction() as connection:
            rows = Store(connection).datasets(str(after[0]), limit + 1)
        return rows[:limit], tokens.encode(rows[limit - 1].id) if len(rows) > limit else ""

    def update(self, name: str, etag: str, fields: DatasetFields, paths: Sequence[str]) -> Dataset:
        """Change the fields that are named.

        Raises:
            Aborted: The etag is stale.
        """
        (id,) = name_part(name, "datasets", field_name="dataset.name")
        unknown = [path for path in paths if path not in _CHANGEABLE]
        if unknown or not paths:
            what = f"names {', '.join(unknown)}" if unknown else "is empty"
            raise InvalidArgument.field("update_mask", f"{what}; name some of {', '.join(_CHANGEABLE)}")
        check_text("dataset.display_name", fields.display_name)
        check_text("dataset.description", fields.description)
        with self._database.transaction() as connection:
            store = Store(connection)
            current = dataset_of(store, id, lock=True)
            check_etag(name, etag, current.etag)
            return store.update_dataset(
                id,
                fields.display_name if "display_name" in paths else current.display_name,
                fields.description if "description" in paths else current.description,
            )

    def create_branch(self, parent: str, id: str, commit: str, repeat: Repeat) -> Branch:
        """Create a branch at a commit."""
        (dataset,) = name_part(parent, "datasets", field_name="parent")
        check_id("branch_id", id)
        with self._database.transaction() as connection:
            store = Store(connection)

            def effect() -> Branch:
                dataset_of(store, dataset)
                at = commit_of(store, commit, "commit", within=dataset)
                made = store.add_branch(dataset, id, at.digest)
                if made is None:
                    raise AlreadyExists("ALREADY_EXISTS", f"{parent}/branches/{id} is there already; move it")
                return made

            return once(
                connection,
                request_id=repeat.request_id,
                method="CreateBranch",
                request=repeat.request,
                answer=Branch,
                effect=effect,
            )

    def get_branch(self, name: str) -> Branch:
        """Return one branch."""
        dataset, id = name_part(name, "datasets", "branches")
        with self._database.transaction() as connection:
            return branch_of(Store(connection), dataset, id)

    def list_branches(self, parent: str, size: int, token: str) -> tuple[Sequence[Branch], str]:
        """Return a page of branches."""
        (dataset,) = name_part(parent, "datasets", field_name="parent")
        limit, tokens = page_size(size), PageToken(("branches", parent))
        after = tokens.decode(token) or [""]
        with self._database.transaction() as connection:
            store = Store(connection)
            dataset_of(store, dataset)
            rows = store.branches(dataset, str(after[0]), limit + 1)
        return rows[:limit], tokens.encode(rows[limit - 1].id) if len(rows) > limit else ""

    def move_branch(self, name: str, etag: str, commit: str, paths: Sequence[str]) -> Branch:
        """Point a branch at another commit by compare-and-set on its etag.

        Raises:
            Aborted: The etag is stale.
        """
        dataset, id = name_part(name, "datasets", "branches", field_name="branch.name")
        if list(paths) != ["commit"]:
            raise InvalidArgument.field("update_mask", "names something else than 'commit'; only that moves")
        with self._database.transaction() as connection:
            store = Store(connection)
            branch = branch_of(store, dataset, id, lock=True)
            check_etag(name, etag, branch.etag)
            target = commit_of(store, commit, "branch.commit", within=dataset)
            return store.move_branch(branch, target.digest)


def first_commit(dataset: str, content: str, author: str, time: datetime) -> Commit:
    """Return the empty commit that a data set begins with."""
    digest = blake3(
        f"{dataset}\0{content}\0{author}\0{time.astimezone(UTC).isoformat()}".encode()
    ).hexdigest()
    return Commit(dataset, digest, "", author, "the empty data set", time, content, 0, 0, 0, 0)


def check_etag(name: str, sent: str, current: str) -> None:
    """Refuse a stale etag."""
    if sent != current:
        message = f"{name} was changed since it was read; get it again and repeat the change"
        raise Aborted("ETAG_MISMATCH", message, metadata={"etag": current})


def dataset_of(store: Store, id: str, *, lock: bool = False) -> Dataset:
    """Return a data set, or refuse with near matches."""
    found = store.dataset(id, lock=lock)
    if found is None:
        known = [dataset.id for dataset in store.datasets("", _KNOWN)]
        raise NotFound.of("DATASET_NOT_FOUND", "data set", id, known)
    return found


def branch_of(store: Store, dataset: str, id: str, *, lock: bool = False) -> Branch:
    """Return a branch, or refuse with near matches."""
    found = store.branch(dataset, id, lock=lock)
    if found is None:
        dataset_of(store, dataset)
        known = [branch.id for branch in store.branches(dataset, "", _KNOWN)]
        raise NotFound.of("BRANCH_NOT_FOUND", f"branch of {dataset!r} named", id, known)
    return found


def commit_of(store: Store, name: str, field_name: str = "name", *, within: str = "") -> Commit:
    """Return a commit by its name; a prefix of its digest will do when it is the only one.

    Raises:
        NotFound: There is none.
        InvalidArgument: It is of another data set than `within`, or the prefix is ambiguous.
    """
    dataset, digest = name_part(name, "datasets", "commits", field_name=field_name)
    if within and dataset != within:
        raise InvalidArgument.field(field_name, f"is of data set {dataset!r}, not {within!r}")
    found = store.commits_like(dataset, check_digest(field_name, digest))
    if len(found) > 1:
        raise InvalidArgument.field(field_name, f"is {name!r}, which more than one commit begins with")
    if not found:
        dataset_of(store, dataset)
        raise NotFound("COMMIT_NOT_FOUND", f"data set {dataset!r} has no commit {digest!r}; list its commits")
    return found[0]
