"""The client's parts that need no platform."""

import io
import json
import tarfile
from pathlib import Path

import httpx
import pytest
from slipway.cli.accounts import parse_duration
from slipway.cli.endpoints import parse_weights
from slipway.cli.models import version_name
from slipway.cli.plot import plot
from slipway.cli.runs import run_name
from slipway.cli.traces import bar
from slipway.cli.training import find_entry_point, parse_parameters
from slipway.client import SlipwayError, left_out, pages, read_source
from slipway.client.packing import pack_folder
from slipway.client.places import find_places
from slipway.client.rpc import may_retry, with_request_id
from slipway.client.tokens import refusal
from slipway.registry.v1 import registry_pb2 as reg


def write(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_the_same_folder_packs_to_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder / "task.py", b"class T(Task): ...")
        write(tmp_path / folder / "parts" / "net.py")
    write(tmp_path / "b" / "__pycache__" / "task.pyc")

    packed = pack_folder(tmp_path / "a")

    assert packed == pack_folder(tmp_path / "b")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert archive.getnames() == ["parts/net.py", "task.py"]


def test_a_link_in_a_task_folder_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "task.py")
    (tmp_path / "secret").symlink_to("/etc/passwd")

    with pytest.raises(SlipwayError, match="secret is a link"):
        pack_folder(tmp_path)


def test_a_task_folder_above_ten_mebibytes_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "weights.bin", b"\0" * (10 << 20))
    write(tmp_path / "task.py")

    with pytest.raises(SlipwayError, match="at most 10485760"):
        pack_folder(tmp_path)


def test_a_folder_per_label_gives_keys_and_labels(tmp_path: Path) -> None:
    write(tmp_path / "rose" / "1.png")
    write(tmp_path / "tulip" / "2.jpg")
    write(tmp_path / "tulip" / "notes.md")

    write(tmp_path / "tulip" / "notes.txt")

    items = read_source(tmp_path)

    assert left_out(tmp_path) == ["tulip/notes.md", "tulip/notes.txt"]
    assert [(item.key, item.label) for item in items] == [("rose/1.png", "rose"), ("tulip/2.jpg", "tulip")]


def test_a_csv_manifest_gives_labels_groups_and_attributes(tmp_path: Path) -> None:
    write(tmp_path / "1.png")
    write(tmp_path / "list.csv", b"path,label,group,camera\n1.png,rose,plant-7,north\n")

    (item,) = read_source(tmp_path / "list.csv")

    assert (item.key, item.label, item.group, item.attributes) == (
        "1.png",
        "rose",
        "plant-7",
        {"camera": "north"},
    )


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_a_manifest_that_is_no_text_or_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SlipwayError, match="is not there"):
        read_source(tmp_path / name)
    write(tmp_path / name, b"\xff\xfe")

    with pytest.raises(SlipwayError, match="save it as UTF-8"):
        read_source(tmp_path / name)


@pytest.mark.parametrize("path", ["../outside.png", "/etc/passwd", "missing.png"])
def test_a_manifest_names_only_files_beside_it(tmp_path: Path, path: str) -> None:
    write(tmp_path / "outside.png")
    manifest = write(tmp_path / "in" / "list.jsonl", json.dumps({"path": path}).encode())

    with pytest.raises(SlipwayError, match="line 1"):
        read_source(manifest)


def test_places_come_from_arguments_then_environment_then_the_platform_s_file(tmp_path: Path) -> None:
    write(tmp_path / ".slipway" / "platform.json", b'{"port_base": 9000}')
    write(tmp_path / ".slipway" / "admin-token", b"slp_file\n")
    below = tmp_path / "deep" / "down"
    below.mkdir(parents=True)

    found = find_places(folder=below, environ={"SLIPWAY_GRPC": "door:1"}, token="slp_argument")

    assert (found.rest, found.grpc, found.token) == ("http://127.0.0.1:9000", "door:1", "slp_argument")


def test_services_without_a_door_are_named_one_by_one() -> None:
    places = find_places("x", "registry=a:1,ingestion=b:2", "t", environ={})

    assert places.address("ingestion") == "b:2"
    with pytest.raises(SlipwayError, match="rollout"):
        places.address("rollout")


def test_a_write_gets_a_request_id_and_keeps_one_that_is_there() -> None:
    filled = with_request_id(reg.CreateModelRequest(model_id="a"))
    kept = with_request_id(reg.CreateModelRequest(request_id="mine"))

    assert len(filled.request_id) == 36  # type: ignore[attr-defined]
    assert kept.request_id == "mine"  # type: ignore[attr-defined]


def test_only_reads_and_writes_with_a_request_id_are_retried() -> None:
    methods = reg.DESCRIPTOR.services_by_name["RegistryService"].methods_by_name

    retried = {
        name for name in ("GetRun", "CreateModel", "LogMetrics", "UpdateModel") if may_retry(methods[name])
    }

    assert retried == {"GetRun", "CreateModel"}


def test_weights_are_read_with_and_without_v_and_per_cent() -> None:
    assert parse_weights(["v1=90", "2=10%"]) == {"v1": 90, "v2": 10}
    with pytest.raises(SlipwayError, match="v1:90"):
        parse_weights(["v1:90"])
    with pytest.raises(SlipwayError, match="v1 has two weights"):
        parse_weights(["v1=50", "1=50"])


def test_hyperparameters_are_json_where_they_are_json() -> None:
    assert parse_parameters(["lr=0.1", "name=adam", "deep=true"]) == {"lr": 0.1, "name": "adam", "deep": True}


def test_the_only_task_class_is_the_entry_point(tmp_path: Path) -> None:
    write(tmp_path / "task.py", b"class Flowers(Task):\n    pass\n")

    assert find_entry_point(tmp_path) == "task.py:Flowers"


def test_short_names_become_resource_names() -> None:
    assert version_name("flowers/v2") == version_name("flowers/2") == "models/flowers/versions/2"
    assert run_name("flowers/7") == "experiments/flowers/runs/7"
    assert parse_duration("12h") == 43_200


def test_a_plot_shows_its_bounds_and_leaves_out_what_is_not_finite() -> None:
    lines = plot([0, 50, 100, 150], [2.0, 1.0, 0.5, float("nan")], width=20, height=4)

    assert lines[0].strip().startswith("2 ┤")
    assert lines[3].strip().startswith("0.5 ┤")
    assert lines[4].split() == ["0", "100"]


def test_a_span_s_bar_lies_where_the_span_lies() -> None:
    assert bar(50, 50, 100) == "·" * 12 + "█" * 12
    assert len(bar(99.99, 5, 100)) == 24


class Listing:
    """A service's listing of numbered models, 1000 a page at most."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.sizes: list[int] = []

    def __call__(self, request: reg.ListModelsRequest) -> reg.ListModelsResponse:
        self.sizes.append(request.page_size)
        start = int(request.page_token or 0)
        end = min(start + request.page_size, self.count)
        models = [reg.Model(name=f"models/m{number}") for number in range(start, end)]
        return reg.ListModelsResponse(models=models, next_page_token=str(end) if end < self.count else "")


def test_pages_give_every_row_of_a_listing_and_leave_the_request_as_it_is() -> None:
    listing, request = Listing(2500), reg.ListModelsRequest()

    names = [row.name for row in pages(listing, request, "models")]

    assert names == [f"models/m{number}" for number in range(2500)]
    assert listing.sizes == [1000, 1000, 1000]
    assert request == reg.ListModelsRequest()


def test_pages_ask_for_no_more_rows_than_the_limit() -> None:
    listing = Listing(2500)

    names = [row.name for row in pages(listing, reg.ListModelsRequest(), "models", 1003)]

    assert len(names) == 1003
    assert listing.sizes == [1000, 3]


@pytest.mark.parametrize(("status", "code"), [(502, "UNAVAILABLE"), (503, "UNAVAILABLE"), (418, "UNKNOWN")])
def test_an_answer_that_the_gateway_did_not_write_says_whether_to_try_again(status: int, code: str) -> None:
    answer = httpx.Response(status, text="no healthy upstream", request=httpx.Request("GET", "http://here/x"))

    assert refusal(answer).code == code
