"""`slipway predict`."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from slipway.cli.output import AsJson, print_json, print_table
from slipway.cli.platform_client import connect, endpoints
from slipway.client import Client, SlipwayError, image_tensor, resource
from slipway.registry.v1 import registry_pb2 as reg
from slipway.rollout.v1 import rollout_pb2 as rol


def predict(
    endpoint: Annotated[str, typer.Argument(help="The endpoint.", autocompletion=endpoints)],
    files: Annotated[list[Path], typer.Argument(help="Image files.")],
    version: Annotated[str, typer.Option(help="Ask this version (vN), whatever the split says.")] = "",
    key: Annotated[str, typer.Option(help="Whose request: a key stays with its version.")] = "",
    as_json: AsJson = False,
) -> None:
    """Ask an endpoint about image files; each is a request of its own, so the split applies to each."""
    client = connect()
    name, shape = image_input(client.model_metadata(endpoint))
    classes = _Classes(client, endpoint)
    rows = []
    for path in files:
        tensor = image_tensor(path, shape)
        answer = client.infer(endpoint, {name: tensor[None]}, version=version, key=key)
        rows.append({"file": str(path), **best(answer.outputs, classes.of(answer.model_version))})
        rows[-1] |= {"version": f"v{answer.model_version}", "prediction": answer.id, "trace": answer.trace_id}
    if as_json:
        print_json(rows)
        return
    columns = ["file", "class", "confidence", "version", "prediction"]
    print_table(columns, [[row[column] for column in columns] for row in rows])


def image_input(metadata: dict[str, Any]) -> tuple[str, list[int]]:
    """Return name and (H, W, C) of the only input.

    Raises:
        SlipwayError: The model takes something else than one image.
    """
    inputs = metadata.get("inputs", [])
    shape = [int(size) for size in inputs[0]["shape"]][1:] if inputs else []
    if len(inputs) != 1 or inputs[0]["datatype"] != "UINT8" or len(shape) != 3:
        seen = ", ".join(f"{i['name']} {i['datatype']} {i['shape']}" for i in inputs) or "nothing"
        text = f"the model takes {seen}, not one uint8 image; send tensors with `slipway.client.Client.infer`"
        raise SlipwayError("FAILED_PRECONDITION", "NOT_AN_IMAGE_MODEL", text)
    return str(inputs[0]["name"]), shape


def best(outputs: Any, classes: list[str]) -> dict[str, Any]:
    """Return the likeliest class and its probability, from `probabilities` or the first output."""
    scores = np.asarray(outputs.get("probabilities", next(iter(outputs.values()))), float).reshape(-1)
    index = int(scores.argmax())
    named = classes[index] if index < len(classes) else str(index)
    return {"class": named, "confidence": round(float(scores[index]), 4)}


class _Classes:
    """Class names of an endpoint's versions, as their evaluation lists them; asked once each."""

    def __init__(self, client: Client, endpoint: str) -> None:
        self._client = client
        self._endpoint = resource("endpoints", endpoint)
        self._model = ""
        self._known: dict[str, list[str]] = {}

    def of(self, version: str) -> list[str]:
        """Return the class names of a version."""
        if not self._model:
            found = self._client.rollout.GetEndpoint(rol.GetEndpointRequest(name=self._endpoint))
            self._model = found.model
        if version not in self._known:
            request = reg.GetModelVersionRequest(name=f"{self._model}/versions/{version}")
            self._known[version] = list(self._client.registry.GetModelVersion(request).evaluation.classes)
        return self._known[version]
