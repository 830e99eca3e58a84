"""What was made of commits, predictions and erasures, and what commits are made of."""

from slipway_runtime.db import Database, PageToken, page_size
from sqlalchemy import Connection

from slipway_ingestion.domain import name_part, prediction_of
from slipway_ingestion.store import ErasureStore, PredictionStore, Store
from slipway_ingestion.usecases.datasets import commit_of
from slipway_ingestion.usecases.erasures import erasure_of


class Lineage:
    """Edges between commits, and from predictions and erasures to commits.

    Args:
        database: Of this service.
    """

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def children(self, name: str, size: int, token: str) -> tuple[list[str], str]:
        """Return a page of what was made of a thing, and the token of the next.

        That is the commits made on a commit, those that took a prediction in (none for one that was never
        imported), or those that contained what an erasure removed.
        """
        limit, tokens = page_size(size), PageToken(("children", name), (str,))
        key = tokens.decode(token)
        after = str(key[0]) if key else ""
        with self._database.transaction() as connection:
            if name.startswith("predictions/"):
                names = _imports(connection, prediction_of(name), after, limit + 1)
            elif "/erasures/" in name:
                names = _erased(connection, name, after, limit + 1)
            else:
                commit = commit_of(Store(connection), name)
                found = Store(connection).commits_on(commit, _last(after), limit + 1)
                names = [child.name for child in found]
        return names[:limit], tokens.encode(names[limit - 1]) if len(names) > limit else ""

    def parents(self, name: str, size: int, token: str) -> tuple[list[str], str]:
        """Return a page of the commit before a commit, then the predictions that it took in."""
        limit, tokens = page_size(size), PageToken(("parents", name), (str,))
        key = tokens.decode(token)
        with self._database.transaction() as connection:
            commit = commit_of(Store(connection), name)
            before = [commit.parent_name] if commit.parent and not key else []
            after = str(key[0]) if key else ""
            predictions = PredictionStore(connection).of_commit(commit, after, limit + 1 - len(before))
        names = [*before, *predictions]
        if len(names) <= limit:
            return names, ""
        last = names[limit - 1]
        return names[:limit], tokens.encode("" if last in before else last)


def _imports(connection: Connection, prediction: str, after: str, limit: int) -> list[str]:
    past = name_part(after, "datasets", "commits") if after else ("", "")
    found = PredictionStore(connection).commits_of(prediction, (past[0], past[1]), limit)
    return [f"datasets/{dataset}/commits/{digest}" for dataset, digest in found]


def _erased(connection: Connection, name: str, after: str, limit: int) -> list[str]:
    dataset, id = name_part(name, "datasets", "erasures")
    erasure = erasure_of(connection, dataset, id)
    found = ErasureStore(connection).commits_of(erasure, _last(after), limit)
    return [f"datasets/{dataset}/commits/{digest}" for digest in found]


def _last(name: str) -> str:
    return name.rpartition("/")[2]
