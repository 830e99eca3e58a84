"""What was made of what, as far as the registry knows: commits, runs, versions."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from slipway_runtime.db import Database, PageToken, page_size
from slipway_runtime.errors import InvalidArgument

from slipway_registry.domain import check_commit, name_part
from slipway_registry.store import Store
from slipway_registry.usecases.models import model_named, version_named
from slipway_registry.usecases.runs import run_named

Names: TypeAlias = tuple[Sequence[str], str]
_CHILDREN = "datasets/*/commits/*, experiments/*/runs/*, models/* or models/*/versions/*"
_PARENTS = "experiments/*/runs/* or models/*/versions/*"


class Lineage:
    """The verbs over lineage."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def children(self, name: str, size: int, token: str) -> Names:
        """Return a page of what was made of a thing: commit → runs, run → versions, model → versions.

        A version's endpoints are rollout's to tell: here it has no children.

        Raises:
            InvalidArgument: The name is of a kind that the registry knows nothing of.
            NotFound: There is no such run, model or version. Commits are not the registry's: one that it
                never saw has no children.
        """
        kind = _kind(name)
        with self._database.transaction() as connection:
            store = Store(connection)
            if kind == ("datasets", "commits"):
                commit = check_commit("name", name)
                return _by_number(name, size, token, lambda *at: store.runs_of_commit(commit, *at))
            if kind == ("experiments", "runs"):
                run = run_named(store, name).name
                return _by_model(name, size, token, lambda *at: store.versions_of_run(run, *at))
            if kind == ("models",):
                model = model_named(store, *name_part(name, "models")).id
                return _by_number(name, size, token, lambda *at: store.versions_of_model(model, *at))
            if kind == ("models", "versions"):
                version_named(store, name)
                return _listed(name, size, token, ())
        raise InvalidArgument.field("name", f"is {name!r}; write {_CHILDREN}")

    def parents(self, name: str, size: int, token: str) -> Names:
        """Return a page of what a thing was made of: version → run, run → commit, job and task code.

        Raises:
            InvalidArgument: The name is of a kind that the registry knows nothing of.
            NotFound: There is no such run or version.
        """
        kind = _kind(name)
        with self._database.transaction() as connection:
            store = Store(connection)
            if kind == ("models", "versions"):
                return _listed(name, size, token, [version_named(store, name).run])
            if kind == ("experiments", "runs"):
                run = run_named(store, name)
                made_of = [run.dataset_commit, run.job, run.code_digest]
                return _listed(name, size, token, [parent for parent in made_of if parent])
        raise InvalidArgument.field("name", f"is {name!r}; write {_PARENTS}")


def _kind(name: str) -> tuple[str, ...]:
    return tuple(name.split("/")[::2])


def _by_number(name: str, size: int, token: str, read: Callable[[int, int], list[tuple[int, str]]]) -> Names:
    limit, tokens = page_size(size), PageToken(("children", name), (int,))
    after = tokens.decode(token) or [0]
    return _page(read(int(after[0]), limit + 1), limit, tokens)


def _by_model(name: str, size: int, token: str, read: Callable[[str, int], list[tuple[str, str]]]) -> Names:
    limit, tokens = page_size(size), PageToken(("children", name))
    after = tokens.decode(token) or [""]
    return _page(read(str(after[0]), limit + 1), limit, tokens)


def _listed(name: str, size: int, token: str, names: Sequence[str]) -> Names:
    limit, tokens = page_size(size), PageToken(("listed", name), (int,))
    start = int((tokens.decode(token) or [0])[0])
    rows = list(enumerate(names, start=1))[max(0, start) :]
    return _page(rows[: limit + 1], limit, tokens)


def _page(rows: Sequence[tuple[int | str, str]], limit: int, tokens: PageToken) -> Names:
    token = tokens.encode(rows[limit - 1][0]) if len(rows) > limit else ""
    return [name for _, name in rows[:limit]], token
