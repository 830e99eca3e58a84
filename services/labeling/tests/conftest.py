"""A labeling service's database, real and fresh, a data set beside it, and people who call."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from slipway_labeling.domain.projects import ProjectSpec, Schema
from slipway_labeling.domain.tasks import Example
from slipway_labeling.usecases.annotators import Annotators
from slipway_labeling.usecases.projects import Projects
from slipway_labeling.usecases.reviews import Reviews
from slipway_labeling.usecases.tasks import Tasks, Wanted
from slipway_labeling.usecases.work import Work
from slipway_runtime.db import Database, Repeat, migrate
from slipway_runtime.errors import NotFound
from slipway_runtime.identity import Caller, acting_as
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parent))

COMMIT = f"datasets/flowers/commits/{'c' * 64}"
ONCE = Repeat("Test", "", b"")


class Flowers:
    """A data set of twelve pictures, p00 to p11, the first two with a label; it stands for ingestion."""

    keys = [f"p{number:02d}" for number in range(12)]

    def check_dataset(self, dataset: str) -> None:
        if dataset != "datasets/flowers":
            raise NotFound.of("DATASET_NOT_FOUND", "data set", dataset, ["datasets/flowers"])

    def head(self, dataset: str, branch: str) -> str:
        if (dataset, branch) != ("datasets/flowers", "main"):
            raise NotFound("DATASET_NOT_FOUND", f"there is no branch {dataset}/branches/{branch}")
        return COMMIT

    def examples(self, commit: str, *, split: str = "", keys: Sequence[str] = ()) -> Iterator[Example]:
        for key in self.keys:
            own = "test" if key == "p11" else "train"
            if (not keys or key in keys) and split in ("", own):
                yield Example(key, f"{key:0>64}", "image/png", "rose" if key < "p02" else "", own)

    def media(self, commit: str, key: str) -> tuple[str, bytes]:
        return "image/png", key.encode()


@pytest.fixture(scope="module")
def _migrated(postgres: Any) -> Iterator[Database]:
    url = postgres.fresh_database()
    migrate(url, "slipway_labeling")
    opened = Database(url, pool_size=16)
    yield opened
    opened.close()
    postgres.drop(url)


@pytest.fixture
def database(_migrated: Database) -> Database:
    """Return a labeling service's empty database."""
    with _migrated.transaction() as connection:
        connection.execute(text("TRUNCATE projects, idempotency RESTART IDENTITY CASCADE"))
    return _migrated


@pytest.fixture
def act() -> Callable[..., AbstractContextManager[None]]:
    """Return a function that makes a user the caller: an annotator unless roles are named."""
    return lambda name, *roles: acting_as(Caller(f"users/{name}", frozenset(roles or ("annotator",))))


@pytest.fixture(autouse=True)
def _engineer() -> Iterator[None]:
    """Make an engineer the caller wherever a test names nobody else."""
    with acting_as(Caller("users/eva", frozenset({"engineer"}))):
        yield


@pytest.fixture
def projects(database: Database) -> Projects:
    return Projects(database=database, ingestion=Flowers())  # type: ignore[arg-type]


@pytest.fixture
def tasks(database: Database) -> Tasks:
    return Tasks(database=database, ingestion=Flowers())  # type: ignore[arg-type]


@pytest.fixture
def work(database: Database) -> Work:
    return Work(database=database)


@pytest.fixture
def reviews(database: Database) -> Reviews:
    return Reviews(database=database)


@pytest.fixture
def annotators(database: Database) -> Annotators:
    return Annotators(database=database)


@pytest.fixture
def new_project(projects: Projects) -> Callable[..., str]:
    """Return a function that makes the project `flowers` of roses, tulips and lilies; it returns the name."""

    def make(**fields: Any) -> str:
        schema = fields.pop("schema", Schema(("rose", "tulip", "lily")))
        spec = ProjectSpec("Flowers", "datasets/flowers", schema, **fields)
        return projects.create("flowers", spec, ONCE).name

    return make


@pytest.fixture
def flowers(new_project: Callable[..., str], tasks: Tasks) -> Callable[..., str]:
    """Return a function that makes the project with its tasks."""

    def make(wanted: Wanted | None = None, **fields: Any) -> str:
        name = new_project(**fields)
        tasks.create(name, wanted or Wanted(), ONCE)
        return name

    return make
