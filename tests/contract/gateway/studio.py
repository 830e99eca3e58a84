"""Projects to label behind a gateway, people with tokens, and what became of their answers."""

import io
import random
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx
import psycopg
from door import ADMIN_TOKEN, Gateway
from PIL import Image
from running import Keys, Service
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc

LABELS = ("rose", "tulip", "lily")


def picture(seed: int, side: int = 28) -> bytes:
    """Return a small PNG of a drawn pattern."""
    draw = random.Random(seed)
    image = Image.new("L", (side, side), 20)
    for _ in range(6):
        x, y, size = draw.randrange(side - 6), draw.randrange(side - 6), draw.randrange(3, 8)
        image.paste(draw.randrange(90, 256), (x, y, x + size, y + size))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


class Studio:
    """What an engineer sets up over REST, and the services behind it."""

    def __init__(
        self, *, keys: Keys, gateway: Gateway, labeling: Service, labeling_database: str, ingestion: Service
    ) -> None:
        self.keys = keys
        self.gateway = gateway
        self.labeling = labeling
        self.labeling_database = labeling_database
        self.ingestion = ingestion
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        self.rest = httpx.Client(base_url=gateway.url, headers=headers, timeout=60)

    def person(self, *roles: str) -> tuple[str, str]:
        """Make a user, an annotator unless roles are named; return its id and an API token."""
        user = f"u-{uuid.uuid4().hex[:8]}"
        self.call("PUT", f"/v1/users/{user}", {"roles": list(roles or ("annotator",))})
        return user, str(self.call("POST", "/v1/tokens", {"user": f"users/{user}"})["secret"])

    def dataset(self, examples: Mapping[str, bytes]) -> str:
        """Commit examples to a data set of their own; return its name."""
        id = f"d-{uuid.uuid4().hex[:8]}"
        with self.ingestion.channel(self.keys.user()) as opened:
            stub = ing_grpc.IngestionServiceStub(opened)
            name = str(stub.CreateDataset(ing.CreateDatasetRequest(dataset_id=id)).name)
            parts = [ing.UploadExamplesRequest(header=ing.UploadHeader(parent=name))]
            for key, data in examples.items():
                parts.append(ing.UploadExamplesRequest(item=ing.UploadItem(key=key, data=data)))
            upload = stub.UploadExamples(iter(parts))
            stub.CreateCommit(ing.CreateCommitRequest(parent=name, uploads=[upload.name], message="all"))
        return name

    def project(self, examples: Mapping[str, bytes], *labels: str, **fields: Any) -> str:
        """Make a project with a task for each example; return its name."""
        classification = {"labels": labels or LABELS, "multiple": fields.pop("multiple", False)}
        schema = {"classification": classification, "instructions": fields.pop("instructions", "")}
        project = {"dataset": self.dataset(examples), "schema": schema, **fields}
        body = {"projectId": f"p-{uuid.uuid4().hex[:8]}", "project": project}
        name = str(self.call("POST", "/v1/labelingProjects", body)["name"])
        self.call("POST", f"/v1/{name}/tasks", {})
        return name

    def answers(self, project: str) -> dict[str, list[str]]:
        """Return the standing answers by key of the example; each stands once."""
        found: dict[str, list[str]] = {}
        for one in self.annotations(project):
            if one["current"]:
                assert one["key"] not in found, "two answers of one person to one task"
                found[one["key"]] = one["answer"]["choice"]["labels"]
        return found

    def annotations(self, project: str) -> list[dict[str, Any]]:
        """Return every annotation of a project, withdrawn ones too."""
        return list(self.call("GET", f"/v1/{project}/annotations?pageSize=1000")["annotations"])

    def call(self, verb: str, path: str, body: object = None) -> dict[str, Any]:
        """Return the answer of a call as the administrator."""
        answer = self.rest.request(verb, path, json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def lease_ends(self, project: str) -> list[datetime]:
        """Return when the leases of a project end, by task."""
        url = self.labeling_database.replace("postgresql+psycopg", "postgresql")
        statement = (
            "SELECT lease_time FROM assignments WHERE project = %s AND state = 'LEASED' ORDER BY task, number"
        )
        with psycopg.connect(url, autocommit=True) as connection:
            return [end for (end,) in connection.execute(statement, (project.split("/")[1],))]

    def prelabel(self, project: str, label: str) -> None:
        """Give every task of a project the same answer of a model."""
        url = self.labeling_database.replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(url, autocommit=True) as connection:
            statement = "UPDATE tasks SET prelabel = ARRAY[%s], prelabel_version = %s WHERE project = %s"
            connection.execute(statement, (label, "models/m/versions/1", project.split("/")[1]))
