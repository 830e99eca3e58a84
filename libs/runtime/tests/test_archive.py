"""What is refused in a packed task folder, and what makes two folders the same."""

import gzip
import io
import tarfile
from collections.abc import Callable

import pytest
from slipway_runtime import archive
from slipway_runtime.archive import ArchiveRefusedError

Pack = Callable[[dict[str, str]], bytes]


def member(name: str, **fields: object) -> bytes:
    """Return a tar.gz with one member of these fields."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        info = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(info, field, value)
        tar.addfile(info)
    return data.getvalue()


@pytest.fixture
def pack() -> Pack:
    """Return what packs files into a tar.gz."""

    def packed(files: dict[str, str]) -> bytes:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as tar:
            for name, text in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(text.encode())
                tar.addfile(info, io.BytesIO(text.encode()))
        return data.getvalue()

    return packed


def sparse() -> bytes:
    """Return a tar.gz of a hundred bytes whose one member says that it is 3 GiB of zeros."""
    info = tarfile.TarInfo("task.py")
    info.size = 512
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": str(3 << 30),
        "GNU.sparse.name": "task.py",
    }
    return gzip.compress(info.tobuf(tarfile.PAX_FORMAT) + b"0\n".ljust(512, b"\0") + bytes(1024))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (sparse(), "sparse file"),
        (member("../up.py"), "leaves the folder"),
        (member("a/../../up.py"), "leaves the folder"),
        (member("/etc/passwd"), "absolute path"),
        (member("C:/up.py"), "absolute path"),
        (member("a\\up.py"), "odd characters"),
        (member("link.py", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link"),
        (member("hard.py", type=tarfile.LNKTYPE, linkname="task.py"), "is a link"),
        (member("device", type=tarfile.CHRTYPE), "neither a file nor a folder"),
        (member("pipe", type=tarfile.FIFOTYPE), "neither a file nor a folder"),
        (member("x" * 300), "longer than 200 bytes"),
        (member("folder", type=tarfile.DIRTYPE), "holds no file"),
        (b"no gzip", "no gzip"),
        (gzip.compress(b"no tar" * 200), "damaged"),
        (member("task.py")[:-20], "ends in the middle"),
        (gzip.compress(bytes(archive.MAX_UNPACKED_BYTES + 1), 1), "unpacks to more"),
        (bytes(archive.MAX_ARCHIVE_BYTES + 1), "at most"),
    ],
    ids=lambda value: value if isinstance(value, str) else "archive",
)
def test_an_archive_that_could_do_harm_is_refused_with_its_reason(data: bytes, why: str) -> None:
    with pytest.raises(ArchiveRefusedError, match=why):
        archive.read_gzip(data)


def test_the_digest_is_of_the_content_alone(pack: Pack) -> None:
    one = archive.read_gzip(pack({"a.py": "1", "b/c.py": "2"}))
    same = archive.read_gzip(gzip.compress(gzip.decompress(pack({"b/c.py": "2", "a.py": "1"})), mtime=7))
    other = archive.read_gzip(pack({"a.py": "12", "b/c.py": ""}))

    assert one.digest() == same.digest() != other.digest()
    assert archive.read(one.pack()) == one


def test_a_file_that_comes_twice_is_refused() -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("task.py"))
        tar.addfile(tarfile.TarInfo("./task.py"))

    with pytest.raises(ArchiveRefusedError, match="comes twice"):
        archive.read_gzip(data.getvalue())


def test_a_file_that_is_a_folder_too_is_refused(pack: Pack) -> None:
    with pytest.raises(ArchiveRefusedError, match="rename one"):
        archive.read_gzip(pack({"a": "1", "a/b.py": "2"}))
