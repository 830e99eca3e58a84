"""Endpoints, the versions they serve, and the rules about weights and shadows. No I/O."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from slipway_runtime.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)

ENGINES = ("onnx", "torch")
SHADOW_SUBSET = "shadow"
MAX_TEXT = 4_000
_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_MODEL = re.compile(r"models/([^/]+)")
_ENDPOINT = re.compile(r"endpoints/([^/]+)")
_VERSION = re.compile(r"(models/[^/]+)/versions/([1-9][0-9]{0,8})")
_CAPTURE = re.compile(r"none|all|(sample|low_confidence):(0(\.[0-9]+)?|1(\.0+)?)")


class State(StrEnum):
    """How ready a served version is."""

    STARTING = "STARTING"
    READY = "READY"
    FAILED = "FAILED"
    STOPPING = "STOPPING"


@dataclass(frozen=True)
class ServingConfig:
    """How the slots of an endpoint serve; the defaults are the service's."""

    engine: str = "onnx"
    replicas: int = 1
    max_batch_rows: int = 32
    latency_objective_ms: float = 50.0
    max_queue_rows: int = 1024
    capture_policy: str = "none"
    threads: int = 1


@dataclass(frozen=True)
class ServedVersion:
    """A version behind an endpoint.

    `routed` says that the mesh knows it: its subset stands in the DestinationRule and its routes in
    the VirtualService. `unrouted_s` is how long ago, by the database's clock, a stopping version lost
    its routes; None while it has them.
    """

    model_version: str
    weight: int = 0
    state: State = State.STARTING
    ready_replicas: int = 0
    replicas: int = 1
    error: str = ""
    routed: bool = False
    unrouted_s: float | None = field(default=None, compare=False)
    create_time: datetime | None = None

    @property
    def number(self) -> int:
        """The version's number."""
        return int(self.model_version.rsplit("/", 1)[1])

    @property
    def subset(self) -> str:
        """The subset's name in the mesh."""
        return f"v{self.number}"


@dataclass(frozen=True)
class Endpoint:
    """A stable address behind which versions of one model serve.

    `revision` counts changes of weights, shadow and fields: the etag. `route_serial` counts writes of the
    route, which carries it. `foreign_route` is the digest of a route that somebody else wrote; empty when
    ours stands. `unrouted_s` is how long ago an endpoint that is being deleted lost its route.
    """

    id: str
    model: str
    description: str = ""
    config: ServingConfig = field(default_factory=ServingConfig)
    versions: tuple[ServedVersion, ...] = ()
    shadow: str = ""
    shadow_percent: int = 0
    revision: int = 1
    route_serial: int = 0
    foreign_route: str = ""
    route_warning: str = ""
    deleting: bool = False
    unrouted_s: float | None = field(default=None, compare=False)
    create_time: datetime | None = None
    update_time: datetime | None = None
    creator: str = ""

    @property
    def name(self) -> str:
        """The resource name."""
        return f"endpoints/{self.id}"

    @property
    def etag(self) -> str:
        """The etag."""
        return f"{self.revision:x}"

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be done but to look now and then."""
        ready = all(v.state is State.READY and v.routed for v in self.versions)
        return ready and not self.deleting and not self.foreign_route

    @property
    def weights(self) -> dict[str, int]:
        """The weight of every version, by subset."""
        return {version.subset: version.weight for version in self.versions}

    def version(self, subset: str) -> ServedVersion:
        """Return the version of that subset.

        Raises:
            NotFound: The endpoint does not serve it.
        """
        for version in self.versions:
            if version.subset == subset:
                return version
        served = [version.subset for version in self.versions]
        raise NotFound(
            "VERSION_NOT_DEPLOYED",
            f"{self.name} does not serve {subset!r}; it serves: {', '.join(served) or 'nothing yet'}",
            metadata={"name": subset, "near": ", ".join(served)},
        )

    def with_version(self, changed: ServedVersion) -> "Endpoint":
        """Return the endpoint with that version in place of the one of the same number."""
        versions = tuple(changed if v.number == changed.number else v for v in self.versions)
        return replace(self, versions=versions)

    def with_weights(self, weights: Mapping[str, int]) -> "Endpoint":
        """Return the endpoint with these weights; versions not named get 0."""
        versions = tuple(replace(v, weight=weights.get(v.subset, 0)) for v in self.versions)
        return replace(self, versions=versions)


class RouteEdited(FailedPrecondition):
    """Somebody else changed the endpoint's route."""

    @classmethod
    def of(cls, endpoint: Endpoint, differs: str) -> "RouteEdited":
        """Return the refusal that shows what differs and how to go on."""
        message = (
            f"the route of {endpoint.name} was changed by somebody else ({differs}); "
            f"look at it, then set the split again with the etag of the endpoint as it is now"
        )
        return cls("ROUTE_EDITED", message, metadata={"endpoint": endpoint.name, "differs": differs})


def endpoint_not_found(name: str, known: Iterable[str]) -> NotFound:
    """Return the error for an unknown endpoint, with near matches."""
    return NotFound.of("ENDPOINT_NOT_FOUND", "endpoint", name, known)


def already_exists(what: str, remedy: str) -> AlreadyExists:
    """Return the error for a thing that is there already."""
    return AlreadyExists("ALREADY_EXISTS", f"{what}; {remedy}")


def not_approved(model_version: str, state: str) -> FailedPrecondition:
    """Return the refusal of a version that its model's gate has not approved."""
    message = (
        f"{model_version} is {state}, and its model has a gate policy; judge it (JudgeModelVersion), "
        "or let an admin override the gate with a reason (OverrideGate)"
    )
    return FailedPrecondition("VERSION_NOT_APPROVED", message, metadata={"state": state})


def endpoint_id(value: str) -> str:
    """Return the id, checked: it becomes a host name and part of object names of at most 63 characters.

    Raises:
        InvalidArgument: It is not a DNS label of at most 40 characters.
    """
    if not _LABEL.fullmatch(value):
        remedy = "use 1 to 40 of a-z, 0-9 and '-', beginning with a letter, not ending with '-'"
        raise InvalidArgument.field("endpoint_id", f"{value!r} is not a DNS label; {remedy}")
    return value


def parse_endpoint(name: str) -> str:
    """Return the id in `endpoints/{endpoint}`."""
    match = _ENDPOINT.fullmatch(name)
    if match is None:
        raise InvalidArgument.field("name", f"{name!r} is not of the form 'endpoints/{{endpoint}}'")
    return match[1]


def parse_model(name: str) -> str:
    """Return the model's name, checked."""
    if not _MODEL.fullmatch(name):
        raise InvalidArgument.field("endpoint.model", f"{name!r} is not of the form 'models/{{model}}'")
    return name


def parse_version(name: str, *, field: str = "model_version") -> tuple[str, int]:
    """Return the model's name and the number in `models/{model}/versions/{number}`."""
    match = _VERSION.fullmatch(name)
    if match is None:
        form = "models/{model}/versions/{number}"
        raise InvalidArgument.field(field, f"{name!r} is not of the form {form!r}")
    return match[1], int(match[2])


def checked_config(config: ServingConfig) -> ServingConfig:
    """Return the configuration, checked.

    Raises:
        InvalidArgument: A field is out of its range; the violation says which range.
    """
    path = "endpoint.serving_config"
    if config.engine not in ENGINES:
        raise InvalidArgument.field(f"{path}.engine", f"{config.engine!r} is no engine; use onnx or torch")
    ranges = {
        "replicas": (1, 100),
        "max_batch_rows": (1, 4096),
        "latency_objective_ms": (1, 60_000),
        "max_queue_rows": (1, 1_000_000),
        "threads": (1, 64),
    }
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise InvalidArgument.field(f"{path}.{name}", f"{value} is not between {low} and {high}")
    if config.max_queue_rows < config.max_batch_rows:
        text = f"{config.max_queue_rows} is less than max_batch_rows {config.max_batch_rows}; raise it"
        raise InvalidArgument.field(f"{path}.max_queue_rows", text)
    if not _CAPTURE.fullmatch(config.capture_policy):
        text = f"{config.capture_policy!r} is none of: none, all, sample:0.1, low_confidence:0.6"
        raise InvalidArgument.field(f"{path}.capture_policy", text)
    return config


def check_etag(endpoint: Endpoint, etag: str) -> None:
    """Let the current etag pass, and none at all.

    Raises:
        Aborted: The caller saw an older state.
    """
    if etag and etag != endpoint.etag:
        message = f"the etag {etag!r} of {endpoint.name} is stale, now {endpoint.etag!r}; read it, then retry"
        raise Aborted("ETAG_MISMATCH", message, metadata={"etag": endpoint.etag})


def check_alive(endpoint: Endpoint) -> None:
    """Refuse changes to an endpoint that is being taken away."""
    if endpoint.deleting:
        message = f"{endpoint.name} is being deleted; wait until it is gone, then create it again"
        raise FailedPrecondition("ENDPOINT_DELETING", message)


def checked_description(value: str) -> str:
    """Return the description.

    Raises:
        InvalidArgument: It is too long, or has a NUL.
    """
    if len(value) > MAX_TEXT or "\0" in value:
        text = f"has {len(value)} characters; at most {MAX_TEXT}, no NUL"
        raise InvalidArgument.field("endpoint.description", text)
    return value


def _invalid_split(text: str) -> InvalidArgument:
    return InvalidArgument.field("weights", text, reason="INVALID_SPLIT")


def split(endpoint: Endpoint, weights: Mapping[str, int]) -> Endpoint:
    """Return the endpoint with these weights in per cent; versions not named get 0.

    Raises:
        InvalidArgument: A weight is negative, the sum is not 100, or a weighted version is not ready,
            or gets the mirror.
        NotFound: A version is not served.
    """
    for subset, weight in weights.items():
        version = endpoint.version(subset)
        if weight < 0:
            raise _invalid_split(f"{subset}={weight} is negative; use 0 to 100")
        if weight and not (version.state is State.READY and version.routed):
            reason = f": {version.error}" if version.error else ""
            raise _invalid_split(f"{subset} is {version.state}, not READY{reason}; wait, or leave it out")
        if weight and endpoint.shadow == subset:
            raise _invalid_split(f"{subset} gets the mirror; end the shadow first (SetShadow with no subset)")
    total = sum(weights.values())
    if total != 100:
        given = ", ".join(f"{subset}={weight}" for subset, weight in sorted(weights.items()))
        raise _invalid_split(f"{given or 'nothing'} sums to {total}; the sum must be 100")
    return endpoint.with_weights(weights)


def shadow(endpoint: Endpoint, subset: str, percent: int) -> Endpoint:
    """Return the endpoint with the mirror on that subset; an empty one ends it.

    A mirror on a version with weight would answer its own live requests twice, so that is refused.

    Raises:
        InvalidArgument: The percentage is out of range.
        NotFound: The version is not served.
        FailedPrecondition: The version is not ready, or has weight.
    """
    if not subset:
        return replace(endpoint, shadow="", shadow_percent=0)
    if not 0 <= percent <= 100:
        raise InvalidArgument.field("percent", f"{percent} is not between 0 and 100; 0 means 100")
    version = endpoint.version(subset)
    if version.weight:
        raise _has_traffic(endpoint, version, "is mirrored only")
    if not (version.state is State.READY and version.routed):
        message = f"{subset} of {endpoint.name} is {version.state}, not READY; wait for it, then mirror to it"
        raise FailedPrecondition("VERSION_NOT_READY", message)
    return replace(endpoint, shadow=subset, shadow_percent=percent or 100)


def _has_traffic(endpoint: Endpoint, version: ServedVersion, what: str) -> FailedPrecondition:
    message = (
        f"{version.subset} of {endpoint.name} has {version.weight} % of the traffic and {what} at 0; "
        f"give its weight to other versions first"
    )
    return FailedPrecondition("VERSION_HAS_TRAFFIC", message, metadata={"weight": str(version.weight)})


def deploy(endpoint: Endpoint, model_version: str) -> Endpoint:
    """Return the endpoint with one more version, which starts.

    Raises:
        InvalidArgument: The version belongs to another model.
        AlreadyExists: The endpoint has it already.
    """
    model, number = parse_version(model_version)
    if model != endpoint.model:
        text = f"{model_version!r} is not of {endpoint.model!r}, which {endpoint.name} serves; use that"
        raise InvalidArgument.field("model_version", text)
    for version in endpoint.versions:
        if version.number == number:
            remedy = "wait until it is gone" if version.state is State.STOPPING else "undeploy it first"
            raise already_exists(f"{endpoint.name} has {model_version}, {version.state}", remedy)
    added = ServedVersion(model_version=model_version, replicas=endpoint.config.replicas)
    return replace(endpoint, versions=(*endpoint.versions, added))


def undeploy(endpoint: Endpoint, model_version: str) -> Endpoint:
    """Return the endpoint with that version stopping; stopping twice is the same.

    Raises:
        NotFound: The endpoint does not serve it.
        FailedPrecondition: It has weight, or gets the mirror.
    """
    _, number = parse_version(model_version)
    version = endpoint.version(f"v{number}")
    if version.model_version != model_version:
        raise NotFound(
            "VERSION_NOT_DEPLOYED", f"{endpoint.name} does not serve {model_version!r} but {endpoint.model!r}"
        )
    if version.weight:
        raise _has_traffic(endpoint, version, "is stopped only")
    if endpoint.shadow == version.subset:
        message = f"{version.subset} of {endpoint.name} gets the mirror; end the shadow first"
        raise FailedPrecondition("VERSION_HAS_TRAFFIC", message)
    return endpoint.with_version(replace(version, state=State.STOPPING))


def check_deletable(endpoint: Endpoint, *, force: bool) -> None:
    """Refuse to take traffic away from its callers unless forced."""
    weighted = [v for v in endpoint.versions if v.weight]
    if weighted and not force:
        raise FailedPrecondition(
            "VERSION_HAS_TRAFFIC",
            f"{endpoint.name} sends its traffic to {weighted[0].subset}; pass force to delete it anyway",
            metadata={"weight": str(weighted[0].weight)},
        )
