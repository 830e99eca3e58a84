"""An erasure is finished and an import is made once, wherever the process dies between two writes."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mortal import EVA, Clock, items, parts
from slipway_ingestion.engine import ranges
from slipway_ingestion.engine.ranges import Metarange
from slipway_ingestion.usecases.commits import NewCommit
from slipway_ingestion.usecases.datasets import DatasetFields, Repeat
from slipway_ingestion.usecases.uploads import Header
from slipway_runtime.db import migrate
from slipway_runtime.identity import acting_as
from sqlalchemy import text

SECRET_KEY = "people/erika.txt"
SECRET = "Erika lives in the yellow house"


@pytest.fixture(scope="module")
def own(postgres: Any, s3: Any) -> Iterator[Any]:
    """Return the use cases on a database and a bucket of their own, and a process that dies at orders."""
    url = postgres.fresh_database()
    migrate(url, "slipway_ingestion")
    objects = s3.fresh_settings()
    use = parts(url, objects, Clock())
    command = [sys.executable, str(Path(__file__).parent / "mortal.py"), url, json.dumps(objects)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def order(**fields: Any) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(fields) + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    yield SimpleNamespace(use=use, order=order)
    assert process.stdin is not None
    process.stdin.close()
    process.wait(60)
    use.database.close()


def dataset(use: Any) -> str:
    return str(use.datasets.create(f"d-{uuid.uuid4().hex[:12]}", DatasetFields("", ""), Repeat("", b"")).name)


def commit(use: Any, parent: str, texts: dict[str, str]) -> Any:
    made = use.uploads.receive(Header(parent, "", ""), items(texts))
    return use.commits.create(NewCommit(parent, "", [made.name], (), "a change", ""), Repeat("", b""))


def filled(use: Any) -> tuple[str, list[Any]]:
    """Return a data set whose two commits have the secret under a key, and a copy under another one."""
    parent = dataset(use)
    own = uuid.uuid4().hex
    others = {f"k{number:03d}.txt": f"text {number} of {own}" for number in range(8)}
    first = commit(use, parent, {**others, SECRET_KEY: f"{SECRET} {own}", "copy.txt": f"{SECRET} {own}"})
    return parent, [first, commit(use, parent, {"new.txt": f"a text more of {own}"})]


def keys(use: Any, name: str) -> set[str]:
    return {row.key for batch in use.reads.read(name, "", (), rows_only=False) for row, _, _ in batch}


def traces(use: Any, clean: set[str]) -> list[str]:
    """Return where the secret, its copy's row or its key are still stored; `clean` were looked at before."""
    found = []
    for name in sorted(set(use.objects.list("")) - clean):
        kind, data = name.partition("/")[0], use.objects.get(name)
        if kind in {"ranges", "uploads"}:
            rows = ranges.decode(data)
            bad = any(row.key in {SECRET_KEY, "copy.txt"} for row in rows)
        elif kind == "packs":
            bad = SECRET.encode() in data
        else:
            refs = Metarange.decode(data).ranges
            bad = any(SECRET_KEY in (ref.first_key, ref.last_key) for ref in refs)
        found += [name] if bad else []
        clean |= set() if bad else {name}
    with use.database.transaction() as connection:
        tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        for (table,) in tables.all():
            row = connection.execute(
                text(f"SELECT count(*) FROM {table} AS t WHERE t::text LIKE :like"),
                {"like": f"%{SECRET_KEY}%"},
            )
            found += [table] if row.scalar_one() else []
    return found


def test_an_erasure_is_finished_wherever_its_removal_dies(own: Any) -> None:
    use, point, killed, clean = own.use, 0, 0, set[str]()

    with acting_as(EVA):
        while True:
            point += 1
            parent, made = filled(use)
            own.order(do="erase", point=0, parent=parent, key=SECRET_KEY, request_id=f"e-{parent}")
            answer = own.order(do="sweep", point=point)
            for one in made:
                assert not keys(use, one.name) & {SECRET_KEY, "copy.txt"}, (point, answer)
            use.removal.sweep()
            (erasure,), _ = use.erasures.list(parent, None, 0, "")
            read = [use.commits.get(one.name) for one in made]
            assert (erasure.number > 0, erasure.commit_count, erasure.error) == (True, 2, ""), point
            assert (erasure.deleted_blob_count, erasure.kept_blob_count) == (1, 0), point
            assert [one.erased_count for one in read] == [2, 2], point
            assert [len(keys(use, one.name)) for one in made] == [8, 9], point
            assert traces(use, clean) == [], point
            killed += answer == "killed"
            if answer.startswith("ended"):
                break

    print(f"{killed} points between two writes, each survived")
    assert killed >= 40


def test_a_read_whose_list_is_rewritten_as_it_begins_finds_the_new_one(
    own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use, get = own.use, own.use.objects.get

    def late(key: str, **part: Any) -> bytes:
        if key.startswith("metaranges/"):
            monkeypatch.setattr(use.objects, "get", get)
            use.removal.sweep()
        return get(key, **part)

    with acting_as(EVA):
        parent, made = filled(use)
        own.order(do="erase", point=0, parent=parent, key=SECRET_KEY, request_id=f"e-{parent}")
        use.content.forget()
        monkeypatch.setattr(use.objects, "get", late)
        assert len(keys(use, made[1].name)) == 9
        (erasure,), _ = use.erasures.list(parent, None, 0, "")

    assert erasure.number > 0


def test_an_erasure_that_dies_as_it_is_asked_for_is_there_once_when_it_is_repeated(own: Any) -> None:
    use, point, answer = own.use, 0, "killed"

    with acting_as(EVA):
        while answer == "killed":
            point += 1
            parent, made = filled(use)
            wanted = {"do": "erase", "parent": parent, "key": SECRET_KEY, "request_id": f"e-{parent}"}
            answer = own.order(point=point, **wanted)
            assert own.order(point=0, **wanted).startswith("ended")
            use.removal.sweep()
            erasures, _ = use.erasures.list(parent, None, 0, "")
            assert len(erasures) == 1, point
            assert SECRET_KEY not in keys(use, made[0].name), point

    assert point > 4


def test_an_import_that_dies_anywhere_is_one_commit_when_it_is_repeated(own: Any) -> None:
    use, point, answer = own.use, 0, "killed"

    with acting_as(EVA):
        while answer == "killed":
            point += 1
            parent = dataset(use)
            own_id = uuid.uuid4().hex
            texts = {f"predictions/{own_id}-{n}.0": f"input {n} of {own_id} {'.' * 500}" for n in range(20)}
            wanted = {"do": "import", "parent": parent, "texts": texts, "request_id": f"i-{parent}"}
            answer = own.order(point=point, **wanted)
            assert own.order(point=0, **wanted).startswith("ended")
            history, _ = use.commits.history(parent, "", 0, "")
            assert [one.message for one in history] == ["captured", "the empty data set"], point
            assert keys(use, history[0].name) == set(texts), point
            assert use.lineage.children(f"predictions/{own_id}-7.0", 0, "")[0] == [history[0].name], point

    assert point > 8
