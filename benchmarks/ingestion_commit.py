"""A commit by ingestion beside two peers (git, DVC) and a floor (bare S3 puts and one SQL COPY).

A pass makes 2,000 fresh PNG images of about 700 bytes, then 20 of them anew; each contestant takes both:

* ingestion: UploadExamples and CreateCommit over gRPC; images are inspected and hashed, all is stored in S3
  and PostgreSQL before the answer.
* floor: the bytes packed into one object put by the same client library on the same S3, the rows by one COPY
  into the same PostgreSQL. No hashing, no inspection, no ranges: what any store of this kind pays at least.
* git: `git add` and `git commit` in a work tree on the same disk. Writing the files is not counted.
* DVC: `dvc add`, `dvc push` to the same S3 and `git commit`. Writing the files is not counted.

Objects and bytes are what appeared in the bucket (git: in .git) meanwhile. Every second pass goes in reverse
order; ratios are taken within a pass. In the first pass what was committed is read back and compared.

    python benchmarks/ingestion_commit.py [--examples 2000] [--changed 20] [--passes 5] [--json FILE]
"""

import argparse
import contextlib
import io
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psycopg
from measuring.figures import keep, ratios, spread, table
from measuring.processes import peers_folder, workplace
from minio import Minio
from PIL import Image
from slipway.ingestion.v1 import ingestion_pb2 as pb
from slipway.ingestion.v1 import ingestion_pb2_grpc
from slipway_local.testing import PostgresServer, Running, TestServers
from slipway_runtime.objects import ObjectStore
from slipway_runtime.settings import ObjectSettings

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "contract"))

from running import Keys, Service  # noqa: E402

Images = dict[str, bytes]
OURS, FLOOR, GIT, DVC = "ingestion", "S3 put + COPY", "git", "DVC"
_SIDE = 25  # noise does not compress: about 700 bytes


@dataclass(frozen=True)
class Measure:
    """One contestant in one pass: all images, then the changed ones."""

    name: str
    first_s: float
    first_objects: int
    first_bytes: int
    change_s: float
    change_objects: int
    change_bytes: int


class Contestant(Protocol):
    """Something that keeps images under names."""

    name: str

    def begin(self, number: int) -> None:
        """Make room for a new pass; not counted."""

    def prepare(self, images: Images) -> None:
        """Lay the images ready; not counted."""

    def commit(self, images: Images) -> None:
        """Keep the images; counted."""

    def size(self) -> tuple[int, int]:
        """Return objects and bytes so far."""

    def read(self) -> Images:
        """Return all images as they are kept."""


class Bucket:
    """A bucket of the S3 server, and what is in it."""

    def __init__(self, servers: TestServers, name: str) -> None:
        self.settings = ObjectSettings(
            s3_endpoint=servers.s3_endpoint,
            s3_public_endpoint="",
            s3_access_key=servers.s3_access_key,
            s3_secret_key=servers.s3_secret_key,
            s3_bucket=name,
            s3_secure=False,
        )
        self.objects = ObjectStore.connect(self.settings)
        self._client = Minio(
            endpoint=servers.s3_endpoint,
            access_key=servers.s3_access_key,
            secret_key=servers.s3_secret_key,
            secure=False,
        )

    def size(self) -> tuple[int, int]:
        """Return objects and bytes."""
        found = list(self._client.list_objects(bucket_name=self.settings.s3_bucket, recursive=True))
        return len(found), sum(int(entry.size or 0) for entry in found)


class Ingestion:
    """The service, a data set per pass."""

    name = OURS

    def __init__(self, service: Service, token: str, bucket: Bucket, ends: contextlib.ExitStack) -> None:
        self._stub: Any = ingestion_pb2_grpc.IngestionServiceStub(ends.enter_context(service.channel(token)))
        self._bucket = bucket
        self._dataset = self._commit = ""

    def begin(self, number: int) -> None:
        request = pb.CreateDatasetRequest(dataset_id=f"bench-{number}-{uuid.uuid4().hex[:8]}")
        self._dataset = self._stub.CreateDataset(request, timeout=10).name

    def prepare(self, images: Images) -> None:
        return None

    def commit(self, images: Images) -> None:
        upload = self._stub.UploadExamples(self._requests(images), timeout=60)
        if upload.accepted_count != len(images):
            raise RuntimeError(f"{upload.refused_count} images were refused: {upload.refused[:1]}")
        request = pb.CreateCommitRequest(parent=self._dataset, uploads=[upload.name], message="benchmark")
        self._commit = self._stub.CreateCommit(request, timeout=60).name

    def _requests(self, images: Images) -> Iterator[Any]:
        yield pb.UploadExamplesRequest(
            header=pb.UploadHeader(parent=self._dataset, label_source="imports/bench")
        )
        for key, data in images.items():
            yield pb.UploadExamplesRequest(item=pb.UploadItem(key=key, data=data, label=key[-5]))

    def size(self) -> tuple[int, int]:
        return self._bucket.size()

    def read(self) -> Images:
        parts = self._stub.ReadExamples(pb.ReadExamplesRequest(commit=self._commit), timeout=60)
        return {one.example.key: one.data for part in parts for one in part.examples}


class Floor:
    """One object per commit and one COPY of its rows."""

    name = FLOOR

    def __init__(self, database: str, bucket: Bucket) -> None:
        self._database = psycopg.connect(database.replace("postgresql+psycopg", "postgresql"))
        self._database.execute(
            "CREATE TABLE rows (key text, pack text, start bigint, size bigint, label text)"
        )
        self._database.commit()
        self._bucket = bucket

    def begin(self, number: int) -> None:
        self._database.execute("TRUNCATE rows")
        self._database.commit()

    def prepare(self, images: Images) -> None:
        return None

    def commit(self, images: Images) -> None:
        pack, start = f"packs/{uuid.uuid4().hex}", 0
        self._bucket.objects.put(pack, b"".join(images.values()))
        with self._database.cursor() as cursor, cursor.copy("COPY rows FROM STDIN") as copy:
            for key, data in images.items():
                copy.write_row((key, pack, start, len(data), key[-5]))
                start += len(data)
        self._database.commit()

    def size(self) -> tuple[int, int]:
        return self._bucket.size()

    def read(self) -> Images:
        found = self._database.execute("SELECT key, pack, start, size FROM rows").fetchall()
        packs = {pack: self._bucket.objects.get(pack) for pack in {row[1] for row in found}}
        return {key: packs[pack][start : start + size] for key, pack, start, size in found}


class Git:
    """A repository per pass."""

    name = GIT

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tree = folder

    def begin(self, number: int) -> None:
        self._tree = self._folder / f"{self.name.lower()}-{number}"
        self._tree.mkdir()
        self._run("git", "init", "-q")
        self._run("git", "config", "user.name", "benchmark")
        self._run("git", "config", "user.email", "benchmark@example.org")

    def prepare(self, images: Images) -> None:
        for key, data in images.items():
            path = self._tree / "data" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def commit(self, images: Images) -> None:
        self._run("git", "add", "-A")
        self._run("git", "commit", "-q", "-m", "benchmark")

    def size(self) -> tuple[int, int]:
        found = [path for path in (self._tree / ".git" / "objects").rglob("*") if path.is_file()]
        return len(found), sum(path.stat().st_size for path in found)

    def read(self) -> Images:
        shutil.rmtree(self._tree / "data")
        self._run("git", "checkout", "-q", "--", "data")
        return self._files()

    def _files(self) -> Images:
        data = self._tree / "data"
        return {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()}

    def _run(self, *command: str) -> None:
        # neither the user's settings nor a repository above may matter
        environment = {
            **os.environ,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CEILING_DIRECTORIES": str(self._folder),
        }
        ended = subprocess.run(
            command, cwd=self._tree, env=environment, capture_output=True, text=True, timeout=180
        )
        if ended.returncode:
            raise RuntimeError(f"{' '.join(command)}: {ended.stderr[-1000:]}")


class Dvc(Git):
    """A repository per pass whose data DVC keeps, in S3."""

    name = DVC

    def __init__(self, folder: Path, python: Path, bucket: Bucket) -> None:
        super().__init__(folder)
        self._dvc = (str(python), "-m", "dvc")
        self._bucket = bucket

    def begin(self, number: int) -> None:
        super().begin(number)
        settings = self._bucket.settings
        self._run(*self._dvc, "init", "-q")
        self._run(*self._dvc, "config", "core.analytics", "false")
        self._run(*self._dvc, "config", "core.check_update", "false")
        self._run(*self._dvc, "remote", "add", "-d", "s3", f"s3://{settings.s3_bucket}/{number}")
        for field, value in (
            ("endpointurl", f"http://{settings.s3_endpoint}"),
            ("access_key_id", settings.s3_access_key),
            ("secret_access_key", settings.s3_secret_key),
        ):
            self._run(*self._dvc, "remote", "modify", "--local", "s3", field, value)

    def commit(self, images: Images) -> None:
        self._run(*self._dvc, "add", "-q", "data")
        self._run(*self._dvc, "push", "-q")
        super().commit(images)

    def size(self) -> tuple[int, int]:
        return self._bucket.size()

    def read(self) -> Images:
        shutil.rmtree(self._tree / "data")
        self._run(*self._dvc, "checkout", "-q")
        return self._files()


def noise(seed: int, names: range) -> Images:
    """Return PNG images that nobody has seen."""
    draw = np.random.default_rng(seed)
    made = {}
    for number in names:
        buffer = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, (_SIDE, _SIDE), np.uint8)).save(buffer, "PNG")
        made[f"image/{number:06d}.png"] = buffer.getvalue()
    return made


def measure(contestant: Contestant, number: int, examples: int, changed: int) -> Measure:
    """Return one measurement of one pass; in the first pass what is kept is read back, too."""
    seed = 1000 * number + 1  # the same images for every contestant
    contestant.begin(number)
    first = noise(seed, range(examples))
    first_s, first_objects, first_bytes = _timed(contestant, first)
    if number == 0 and contestant.read() != first:
        raise RuntimeError(f"{contestant.name} does not give back what it took")
    step = max(examples // 2, 1)
    change = noise(seed + 1, range(step, step + changed))
    change_s, change_objects, change_bytes = _timed(contestant, change)
    return Measure(
        contestant.name, first_s, first_objects, first_bytes, change_s, change_objects, change_bytes
    )


def _timed(contestant: Contestant, images: Images) -> tuple[float, int, int]:
    contestant.prepare(images)
    objects, size = contestant.size()
    began = time.perf_counter()
    contestant.commit(images)
    spent = time.perf_counter() - began
    objects_after, size_after = contestant.size()
    return spent, objects_after - objects, size_after - size


def start_all(folder: Path, ends: contextlib.ExitStack) -> list[Contestant]:
    """Start the servers and make the contestants; a peer that is not installed is named and left out."""
    running = Running()
    ends.callback(running.stop)
    servers = running.start()
    postgres, keys = PostgresServer(servers), Keys(folder / "keys")
    ours, floor, dvc = (Bucket(servers, f"bench-{name}") for name in ("ours", "floor", "dvc"))
    url = postgres.fresh_database()
    service = Service("slipway_ingestion.main", keys, database_url=url, **ours.settings.model_dump())
    ends.callback(service.stop)
    service.migrate().start()
    contestants: list[Contestant] = [
        Ingestion(service, keys.user(), ours, ends),
        Floor(postgres.fresh_database(), floor),
    ]
    if shutil.which("git"):
        contestants.append(Git(folder))
    else:
        print("SKIPPED: the peer git is not installed")
    home = peers_folder() / "dvc"
    if (home / "bin" / "dvc").exists() and shutil.which("git"):
        contestants.append(Dvc(folder, home / "bin" / "python", dvc))
    else:
        print(f"SKIPPED: the peer DVC: python3.11 -m venv {home} && {home}/bin/pip install 'dvc[s3]'")
    return contestants


def report(passes: list[list[Measure]], examples: int, changed: int) -> None:
    """Print both tables."""
    for part, title in (("first", f"{examples:,} examples"), ("change", f"{changed} changed")):
        ours = _values(passes, OURS, f"{part}_s")
        rows = []
        for name in [measure.name for measure in sorted(passes[0], key=_place)]:
            seconds = _values(passes, name, f"{part}_s")
            objects, size = _values(passes, name, f"{part}_objects"), _values(passes, name, f"{part}_bytes")
            kib = spread([value / 1024 for value in size])
            ratio = "" if name == OURS else spread(ratios(ours, seconds), 2)
            rows.append([name, spread(seconds, 3), spread(objects), kib, ratio])
        print("\n" + table([title, "seconds", "objects", "KiB written", "ingestion / it"], rows))
    print("\nwhat was committed first was read back and compared, once per contestant")


def _place(measure: Measure) -> int:
    return (OURS, FLOOR, GIT, DVC).index(measure.name)


def _values(passes: list[list[Measure]], name: str, field: str) -> list[float]:
    return [float(getattr(one, field)) for found in passes for one in found if one.name == name]


def run(arguments: argparse.Namespace) -> None:
    """Start all, measure in turns, end all."""
    with workplace("commit") as (folder, ends):
        contestants = start_all(folder, ends)
        passes = []
        for number in range(arguments.passes):
            turns = contestants if number % 2 == 0 else contestants[::-1]
            passes.append([measure(one, number, arguments.examples, arguments.changed) for one in turns])
            print(f"pass {number + 1} of {arguments.passes} done", flush=True)
    report(passes, arguments.examples, arguments.changed)
    keep(arguments.json, {"passes": [[asdict(one) for one in found] for found in passes]})


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=2000, help="images of the first commit")
    parser.add_argument("--changed", type=int, default=20, help="images of the second commit")
    parser.add_argument("--passes", type=int, default=5, help="how often all are measured in turn")
    parser.add_argument("--json", type=Path, help="file for every pass")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
