"""Ingestion's use cases on parts that die at the n-th point: around a transaction or the write of an object.

Each line on standard input is JSON: what to do, with what, and at which point to die. A forked process does
it. The answer is `killed`, or `ended n` with the number of points that it passed.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from mortality import Clock, MortalDatabase, obey
from slipway_ingestion.domain import Row
from slipway_ingestion.usecases.commits import Commits
from slipway_ingestion.usecases.content import Content
from slipway_ingestion.usecases.datasets import Datasets, Repeat
from slipway_ingestion.usecases.erasures import Erasures, NewErasure
from slipway_ingestion.usecases.intake import Intakes, Item, Limits
from slipway_ingestion.usecases.lineage import Lineage
from slipway_ingestion.usecases.predictions import ImportHeader, Predictions
from slipway_ingestion.usecases.reads import Reads
from slipway_ingestion.usecases.removal import Removal
from slipway_ingestion.usecases.uploads import Uploads
from slipway_ingestion.usecases.views import Views
from slipway_runtime.identity import Caller, acting_as
from slipway_runtime.objects import ObjectStore
from slipway_runtime.settings import ObjectSettings

EVA = Caller("users/eva", frozenset({"engineer"}))
LIMITS = Limits(item_bytes=1 << 20, items=10_000, bytes=1 << 30, pack_bytes=4096)


class MortalObjects(ObjectStore):
    """An object store with a point before and after each write and each delete."""

    clock: Clock

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        self.clock.tick()
        super().put(key, data, content_type)
        self.clock.tick()

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.clock.tick()
            super().delete([key])
            self.clock.tick()


def parts(url: str, objects: dict[str, str], clock: Clock) -> Any:
    """Return the use cases over mortal parts."""
    database = MortalDatabase(url, pool_size=4)
    database.clock = clock
    store = MortalObjects.connect(ObjectSettings(**objects))
    store.clock = clock
    content = Content(objects=store, cache_bytes=1 << 20)
    views = Views(database=database, content=content)
    intakes = Intakes(database=database, content=content, views=views, limits=LIMITS)
    commits = Commits(database=database, content=content, views=views)
    return SimpleNamespace(
        database=database,
        objects=store,
        content=content,
        datasets=Datasets(database=database, content=content),
        uploads=Uploads(database=database, content=content, intakes=intakes),
        predictions=Predictions(database=database, intakes=intakes, commits=commits),
        commits=commits,
        reads=Reads(database=database, content=content, views=views),
        erasures=Erasures(database=database, content=content, views=views, wake=lambda: None),
        removal=Removal(database=database, content=content),
        lineage=Lineage(database=database),
    )


def items(texts: dict[str, str]) -> list[Item]:
    """Return texts by key as items."""
    return [Item(Row(key=key, label="daisy"), text.encode(), "") for key, text in texts.items()]


def do(use: Any, order: dict[str, Any]) -> None:
    """Do what an order says."""
    with acting_as(EVA):
        if order["do"] == "sweep":
            use.removal.sweep()
        elif order["do"] == "erase":
            new = NewErasure(order["parent"], order["key"], "", "by request")
            use.erasures.create(new, Repeat(order["request_id"], b"erase"))
        else:
            header = ImportHeader(order["parent"], "main", "captured", order["request_id"], "")
            use.predictions.receive(header, items(order["texts"]))


def main() -> None:
    """Obey orders until standard input ends."""
    url, objects = sys.argv[1], json.loads(sys.argv[2])

    def one(line: str, clock: Clock) -> None:
        order = json.loads(line)
        use = parts(url, objects, clock)
        clock.start(order["point"])
        do(use, order)

    obey(one)


if __name__ == "__main__":
    main()
