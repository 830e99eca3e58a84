"""Other services, and webhooks, as monitoring needs them: domain in, domain out, the deadline inside."""

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from blake3 import blake3
from google.protobuf import struct_pb2
from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway.pipelines.v1 import pipelines_pb2 as pipe
from slipway.pipelines.v1 import pipelines_pb2_grpc as pipe_grpc
from slipway.registry.v1 import registry_pb2 as reg
from slipway.registry.v1 import registry_pb2_grpc as reg_grpc
from slipway_runtime.errors import FailedPrecondition, NotFound, Unavailable
from slipway_runtime.identity import ON_BEHALF_OF
from slipway_runtime.rpc import Channels, our_errors

from slipway_monitoring.domain.profiles import Profile

CALL_S = 10.0
BULK_S = 300.0
WEBHOOK_S = 5.0
NOWHERE = "127.0.0.1:9"
PROFILES = 200  # kept in memory
MANIFEST, SIGNATURE, REFERENCE = "manifest.json", "signature.json", "profile.json"


class Registry:
    """Reads what versions say of themselves; a version is immutable, so it is asked once.

    Args:
        channels: Of this process.
        address: Of the registry.
    """

    def __init__(self, channels: Channels, address: str) -> None:
        service = reg.DESCRIPTOR.services_by_name["RegistryService"]
        self._stub = reg_grpc.RegistryServiceStub(channels.to(address, service, timeout_s=CALL_S))
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Profile] = OrderedDict()

    def profile(self, model_version: str) -> Profile:
        """Return signature and reference profile of a version's bundle, its bytes verified.

        Args:
            model_version: `models/{model}/versions/{number}`.

        Raises:
            NotFound: The registry has no such version.
            FailedPrecondition: The bundle's bytes are not those of its digest, or hold no signature.
            Unavailable: The registry cannot be reached.
        """
        with self._lock:
            if model_version in self._known:
                return self._known[model_version]
        with our_errors():
            bundle = self._stub.GetModelVersion(reg.GetModelVersionRequest(name=model_version)).bundle
        files = _verified(bundle, self._files(bundle))
        profile = Profile(
            model_version,
            signature=json.loads(files[SIGNATURE]),
            reference=json.loads(files.get(REFERENCE, b"{}")),
        )
        with self._lock:
            self._known[model_version] = profile
            while len(self._known) > PROFILES:
                self._known.popitem(last=False)
        return profile

    def _files(self, bundle: str) -> dict[str, bytes]:
        found: dict[str, bytearray] = {}
        name = ""
        with our_errors():
            there = {file.name for file in self._stub.GetBundle(reg.GetBundleRequest(name=bundle)).files}
            wanted = [name for name in (MANIFEST, SIGNATURE, REFERENCE) if name in there]
            request = reg.DownloadBundleRequest(name=bundle, files=wanted)
            for part in self._stub.DownloadBundle(request):
                if part.WhichOneof("payload") == "file":
                    name = part.file.name
                    found[name] = bytearray()
                else:
                    found[name] += part.chunk
        return {name: bytes(data) for name, data in found.items()}


@dataclass(frozen=True)
class PredictedItem:
    """A predicted input as it becomes an example."""

    key: str
    data: bytes
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class PredictionsImported:
    """What ingestion made of predicted inputs; `refusal` says how many it refused, and the first why."""

    commit: str
    imported_count: int
    refused_count: int
    refusal: str


class Ingestion:
    """Makes examples of predicted inputs; the same again has the same effect.

    Args:
        channels: Of this process.
        address: Of ingestion.
    """

    def __init__(self, channels: Channels, address: str) -> None:
        service = ing.DESCRIPTOR.services_by_name["IngestionService"]
        self._stub = ing_grpc.IngestionServiceStub(channels.to(address, service, timeout_s=CALL_S))

    def check_dataset(self, dataset: str) -> None:
        """Return when a data set is there.

        Raises:
            NotFound: It is not (DATASET_NOT_FOUND).
            Unavailable: Ingestion cannot be reached (INGESTION_UNAVAILABLE).
        """
        with _ingestion_errors():
            self._stub.GetDataset(ing.GetDatasetRequest(name=dataset))

    def import_predictions(
        self,
        dataset: str,
        branch: str,
        message: str,
        request_id: str,
        items: Iterable[PredictedItem],
        *,
        on_behalf_of: str = "",
    ) -> PredictionsImported:
        """Send predicted inputs into one commit, and return what became of them.

        Args:
            dataset: `datasets/{dataset}`.
            branch: Its id.
            message: Of the commit.
            request_id: The same again with the same items returns the first answer.
            items: Read while they are sent; an error of theirs ends the call and is raised as it is.
            on_behalf_of: `users/{user}` who becomes the author; this service when empty or no user.

        Raises:
            NotFound: There is no such data set or branch (DATASET_NOT_FOUND).
            Unavailable: Ingestion cannot be reached (INGESTION_UNAVAILABLE).
        """
        header = ing.ImportPredictionsHeader(
            parent=dataset, branch=branch, message=message, request_id=request_id
        )
        user = [(ON_BEHALF_OF, on_behalf_of)] if on_behalf_of.startswith("users/") else []
        failures: list[Exception] = []
        with _ingestion_errors(failures):
            made = self._stub.ImportPredictions(
                _parts(header, items, failures), timeout=BULK_S, metadata=user
            )
        refusal = ""
        if made.refused_count:
            first = made.refused[0]
            refusal = (
                f"ingestion refused {made.refused_count} inputs; the first, {first.key}: {first.message}"
            )
        return PredictionsImported(made.commit, made.imported_count, made.refused_count, refusal)


@contextmanager
def _ingestion_errors(failures: list[Exception] | None = None) -> Iterator[None]:
    """Turn what ingestion answered into our errors; an error of what was sent comes first."""
    try:
        with our_errors():
            yield
    except NotFound as error:
        raise NotFound("DATASET_NOT_FOUND", error.message, metadata=error.metadata) from error
    except Unavailable as error:
        message = f"ingestion cannot be reached ({error.message}); try again"
        raise Unavailable("INGESTION_UNAVAILABLE", message, retry_after_s=1.0) from error
    finally:
        if failures:
            raise failures[0]


def _parts(
    header: ing.ImportPredictionsHeader, items: Iterable[PredictedItem], failures: list[Exception]
) -> Iterator[ing.ImportPredictionsRequest]:
    """Yield the messages of an import; gRPC swallows what an iterator raises, so it is kept."""
    yield ing.ImportPredictionsRequest(header=header)
    try:
        for one in items:
            item = ing.PredictionItem(key=one.key, data=one.data, attributes=one.attributes)
            yield ing.ImportPredictionsRequest(item=item)
    except Exception as error:
        failures.append(error)
        raise


class Pipelines:
    """Starts runs of pipelines.

    Args:
        channels: Of this process.
        address: Of pipelines; empty where there is none.
    """

    def __init__(self, channels: Channels, address: str) -> None:
        self._address = address
        service = pipe.DESCRIPTOR.services_by_name["PipelinesService"]
        opened = channels.to(address or NOWHERE, service, timeout_s=CALL_S)
        self._stub = pipe_grpc.PipelinesServiceStub(opened)

    def start(self, pipeline: str, parameters: Mapping[str, Any], alert: str) -> str:
        """Start a run for an alert and return its name; a repeat returns the first run's.

        Raises:
            SlipwayError: There is no such pipeline, it refuses the parameters, or it cannot be reached.
        """
        if not self._address:
            raise Unavailable(
                "PIPELINES_UNAVAILABLE", "no address of pipelines is set; set SLIPWAY_PIPELINES"
            )
        values = struct_pb2.Struct()
        values.update(parameters)
        request = pipe.CreatePipelineRunRequest(
            parent=pipeline,
            parameters=values,
            trigger=pipe.PipelineRun.ALERT,
            trigger_source=f"alerts/{alert}",
            request_id=alert,
        )
        with our_errors():
            return str(self._stub.CreatePipelineRun(request).name)


def post_webhook(url: str, payload: Mapping[str, Any], alert: str) -> str:
    """Post an alert as JSON and return the HTTP status; the alert's id is the idempotency key.

    Raises:
        httpx.HTTPError: It did not answer, or with other than 2xx; a redirect is not followed.
    """
    response = httpx.post(url, json=payload, headers={"idempotency-key": alert}, timeout=WEBHOOK_S)
    response.raise_for_status()
    return str(response.status_code)


def _verified(bundle: str, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Return the files, which are those that the bundle's digest stands for.

    Raises:
        FailedPrecondition: They are not.
    """
    listed: Mapping[str, Any] = json.loads(files.get(MANIFEST, b"{}")).get("files", {})
    canonical = json.dumps(listed, sort_keys=True, separators=(",", ":")).encode()
    bad = [name for name, data in files.items() if name != MANIFEST and _digest(listed, name) != _of(data)]
    if f"bundles/{_of(canonical)}" != bundle or bad or SIGNATURE not in files:
        message = f"{bundle} is damaged ({', '.join(bad) or MANIFEST}); upload it again"
        raise FailedPrecondition("PROFILE_DAMAGED", message)
    return files


def _digest(listed: Mapping[str, Any], name: str) -> str:
    return str(listed.get(name, {}).get("blake3", ""))


def _of(data: bytes) -> str:
    return str(blake3(data).hexdigest())
