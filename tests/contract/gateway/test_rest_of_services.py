"""The services' RPCs as REST, on the real registry and ingestion."""

import re
import uuid
from typing import Any

import httpx
from door import Gateway


def model(rest: httpx.Client, **fields: Any) -> dict[str, Any]:
    body = {"modelId": f"m-{uuid.uuid4().hex[:8]}", "model": {"description": "a model"}, **fields}
    answer = rest.post("/v1/models", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def reason(answer: httpx.Response) -> str:
    details = answer.json()["error"]["details"]
    return str(next(d["reason"] for d in details if d["@type"].endswith("ErrorInfo")))


def test_what_is_created_can_be_read_and_carries_the_token_s_user(rest: httpx.Client) -> None:
    made = model(rest)

    read = rest.get(f"/v1/{made['name']}")

    assert read.json() == made
    assert made["creator"] == "users/admin"


def test_a_body_in_the_proto_s_own_names_is_read_too(rest: httpx.Client) -> None:
    name = f"m-{uuid.uuid4().hex[:8]}"

    answer = rest.post("/v1/models", json={"model_id": name, "model": {"description": "x"}})

    assert answer.json()["name"] == f"models/{name}"


def test_a_patch_without_a_mask_changes_what_its_body_names(rest: httpx.Client) -> None:
    made = model(rest)

    changed = rest.patch(f"/v1/{made['name']}", json={"description": "better", "etag": made["etag"]})

    assert changed.status_code == 200, changed.text
    assert changed.json()["description"] == "better"


def test_a_stale_etag_is_a_409_with_the_service_s_own_reason_and_domain(rest: httpx.Client) -> None:
    made = model(rest)

    answer = rest.patch(
        f"/v1/{made['name']}", params={"updateMask": "description"}, json={"description": "x", "etag": "old"}
    )

    assert answer.status_code == 409
    assert reason(answer) == "ETAG_MISMATCH"
    assert answer.json()["error"]["details"][0]["domain"] == "registry.slipway"


def test_an_unknown_name_is_a_404_that_lists_near_ones(rest: httpx.Client) -> None:
    made = model(rest)

    answer = rest.get(f"/v1/{made['name']}x")

    assert answer.status_code == 404
    assert made["name"].partition("/")[2] in answer.json()["error"]["message"]


def test_a_listing_goes_page_by_page_through_query_parameters(rest: httpx.Client) -> None:
    names = {model(rest)["name"] for _ in range(3)}

    seen, token = set(), ""
    while True:
        page = rest.get("/v1/models", params={"pageSize": 2, "pageToken": token}).json()
        seen |= {row["name"] for row in page["models"]}
        token = page["nextPageToken"]
        if not token:
            break

    assert names <= seen


def test_an_idempotency_key_is_the_request_id(rest: httpx.Client) -> None:
    key, body = str(uuid.uuid4()), {"modelId": f"m-{uuid.uuid4().hex[:8]}", "model": {}}

    first = rest.post("/v1/models", json=body, headers={"Idempotency-Key": key})
    again = rest.post("/v1/models", json=body, headers={"Idempotency-Key": key})

    assert first.status_code == 200
    assert first.json() == again.json()


def test_an_unknown_query_parameter_is_named_with_near_ones(rest: httpx.Client) -> None:
    answer = rest.get("/v1/models", params={"pageSise": 2})

    assert answer.status_code == 400
    assert "pageSize" in answer.json()["error"]["message"]


def test_an_unknown_field_in_a_body_is_named(rest: httpx.Client) -> None:
    answer = rest.post("/v1/models", json={"modelId": "x", "modle": {}})

    assert answer.status_code == 400
    assert "modle" in answer.json()["error"]["message"]


def test_an_unknown_path_is_a_json_404_with_near_matches(rest: httpx.Client) -> None:
    answer = rest.get("/v1/datasts")

    assert answer.status_code == 404
    assert "GET /v1/datasets" in answer.json()["error"]["message"]


def test_a_wrong_method_is_a_405_that_lists_the_right_ones(rest: httpx.Client) -> None:
    answer = rest.put("/v1/models")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, POST"


def test_a_service_that_is_down_is_a_503_that_names_it(rest: httpx.Client) -> None:
    answer = rest.get("/v1/trainingJobs")

    assert answer.status_code == 503
    assert "training" in answer.json()["error"]["message"]


def test_a_body_above_the_limit_is_refused_with_413(rest: httpx.Client) -> None:
    answer = rest.post("/v1/models", content=b" " * (1 << 20) + b"{}")

    assert answer.status_code == 413
    assert reason(answer) == "BODY_TOO_LARGE"


def test_a_body_above_the_limit_without_a_length_is_refused_too(rest: httpx.Client) -> None:
    answer = rest.post("/v1/models", content=(b" " * 65536 for _ in range(32)))

    assert answer.status_code == 413


def test_ingestion_is_behind_the_same_door(rest: httpx.Client) -> None:
    name = f"d-{uuid.uuid4().hex[:8]}"

    made = rest.post("/v1/datasets", json={"datasetId": name, "dataset": {"description": "pictures"}})
    branches = rest.get(f"/v1/datasets/{name}/branches")

    assert made.status_code == 200, made.text
    assert [row["name"] for row in branches.json()["branches"]] == [f"datasets/{name}/branches/main"]


def test_openapi_describes_every_rpc_with_the_proto_s_comments(rest: httpx.Client) -> None:
    document = rest.get("/openapi.json").json()

    operation = document["paths"]["/v1/models/{model}"]["get"]
    assert operation["operationId"] == "GetModel"
    assert operation["summary"] == "Returns one model"
    created = document["components"]["schemas"]["slipway.registry.v1.CreateModelRequest"]
    assert created["properties"]["requestId"]["description"] == "Makes a repeat return the first answer."


def test_the_documentation_needs_no_other_host(gateway: Gateway) -> None:
    page = httpx.get(f"{gateway.url}/docs").text

    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loaded
    assert [url for url in loaded if url.startswith(("http", "//"))] == []
    assert {httpx.get(f"{gateway.url}{url}").status_code for url in loaded} == {200}
