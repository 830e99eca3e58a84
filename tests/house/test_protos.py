"""The protos are linted, commented and not broken; buf's rules are seen to bite."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import google
import grpc_tools
import pytest

ROOT = Path(__file__).parents[2]
STREAMED = re.compile(r"rpc \w+\(stream (\w+)\)")
BUF = str(Path(sys.executable).parent / "buf")


def workspace(folder: Path, source: Path) -> Path:
    """Lay out the protos with what they import (buf would fetch it), lint rules as in buf.yaml."""
    shutil.copytree(source, folder / "proto")
    for base in google.__path__:
        for part in ("api", "rpc"):
            for path in Path(base, part).glob("*.proto"):
                (folder / "deps/google" / part).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / "deps/google" / part)
    assert Path(grpc_tools.__file__).exists()
    config = (ROOT / "buf.yaml").read_text()
    (folder / "buf.yaml").write_text(config.replace("  - path: proto\n", "  - path: proto\n  - path: deps\n"))
    return folder


def buf(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        [BUF, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=250
    )


def test_the_protos_pass_buf_lint(tmp_path: Path) -> None:
    result = buf(workspace(tmp_path / "w", ROOT / "proto"), "lint", "proto")

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", sorted(ROOT.glob("proto/slipway/*/v1/*.proto")), ids=lambda path: path.stem)
def test_every_service_tells_its_lineage_both_ways(path: Path) -> None:
    text = path.read_text()

    assert [rpc for rpc in ("ListChildren", "ListParents") if f"rpc {rpc}({rpc}Request)" not in text] == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("proto/slipway/*/v1/*.proto")), ids=lambda path: path.stem)
def test_every_stream_of_requests_can_say_that_it_was_all(path: Path) -> None:
    text = path.read_text()
    bodies = [re.search(rf"message {kind} {{.*?^}}", text, re.S | re.M) for kind in STREAMED.findall(text)]

    assert [body and body[0] for body in bodies if not body or "bool last = 15;" not in body[0]] == []


def test_a_message_without_a_comment_is_found(tmp_path: Path) -> None:
    folder = workspace(tmp_path / "w", ROOT / "proto")
    path = folder / "proto/slipway/registry/v1/registry.proto"
    path.write_text(path.read_text() + "\nmessage Bare {\n  string name = 1;\n}\n")

    result = buf(folder, "lint", "proto")

    assert "Bare" in result.stdout


def test_a_field_taken_away_is_a_break(tmp_path: Path) -> None:
    before = workspace(tmp_path / "before", ROOT / "proto")
    after = workspace(tmp_path / "after", ROOT / "proto")
    path = after / "proto/slipway/registry/v1/registry.proto"
    path.write_text(path.read_text().replace("  double recall = 4;\n", ""))

    result = buf(after, "breaking", "proto", "--against", str(before / "proto"))

    assert "recall" in result.stdout + result.stderr


def test_nothing_breaks_against_the_last_release(tmp_path: Path) -> None:
    tags = subprocess.run(
        ["git", "tag", "--list", "v*", "--sort=-v:refname"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if not tags:
        pytest.skip("there is no release tag yet, so nothing that could be broken")
    old = tmp_path / "tag"
    old.mkdir()
    archive = subprocess.run(["git", "archive", tags[0], "proto"], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(old)], input=archive.stdout, check=True)
    before = workspace(tmp_path / "before", old / "proto")

    result = buf(
        workspace(tmp_path / "w", ROOT / "proto"), "breaking", "proto", "--against", str(before / "proto")
    )

    assert result.returncode == 0, result.stdout + result.stderr
