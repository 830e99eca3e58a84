"""Pods, and what points at them: selectors, ports, probes, rights, volumes, quantities."""

import re
from collections.abc import Iterator
from decimal import Decimal

from .objects import WORKLOADS, Finding, Manifest, Objects, Pod, namespace_of, where
from .variables import given

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
_FACTOR = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
}
_EVERYWHERE = "kube-root-ca.crt"  # the cluster puts it into every namespace
_PROTOCOLS = ("grpc", "http", "http2", "https", "tcp", "tls", "mongo", "redis")


def check(objects: Objects) -> Iterator[Finding]:
    """Yield a finding for each thing that points at nothing, or has more rights than it needs."""
    for manifest in objects.of(*WORKLOADS):
        yield from _own_selector(manifest)
    for pod in objects.pods():
        yield from _account(objects, pod)
        yield from _pod_security(pod)
        yield from _references(objects, pod)
        for path, container in pod.containers():
            yield from _container_security(pod, path, container)
            yield from _resources(pod, path, container)
            yield from _probes(pod, path, container)
            yield from _mounts(pod, path, container)
            yield from _writable(objects, pod, path, container)
        yield from _migrated(objects, pod)
        yield from _after_sidecar(pod)
    yield from _services(objects)
    yield from _budgets_and_scalers(objects)


def quantity(text: str) -> Decimal | None:
    """Return the value of a Kubernetes quantity, or None when it is none."""
    match = _QUANTITY.fullmatch(str(text))
    return Decimal(match[1]) * _FACTOR[match[2]] if match else None


def _own_selector(manifest: Manifest) -> Iterator[Finding]:
    selector = manifest["spec"]["selector"].get("matchLabels") or {}
    labels = manifest["spec"]["template"]["metadata"].get("labels") or {}
    if not selector or not selector.items() <= labels.items():
        yield Finding(
            where(manifest), "spec.selector", f"{selector} does not hit its own pods' labels {labels}"
        )


def _account(objects: Objects, pod: Pod) -> Iterator[Finding]:
    name = pod.spec.get("serviceAccountName", "")
    if not name:
        yield Finding(pod.where, "serviceAccountName", "is not set: the namespace's default would be used")
    elif objects.find("ServiceAccount", pod.namespace, name) is None:
        yield Finding(pod.where, "serviceAccountName", f"there is no ServiceAccount {pod.namespace}/{name}")


def _pod_security(pod: Pod) -> Iterator[Finding]:
    context = pod.spec.get("securityContext") or {}
    if context.get("runAsNonRoot") is not True:
        yield Finding(pod.where, "securityContext.runAsNonRoot", "is not true")
    if not context.get("runAsUser"):
        yield Finding(pod.where, "securityContext.runAsUser", "is not set, or is root")
    if (context.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        yield Finding(pod.where, "securityContext.seccompProfile", "is not RuntimeDefault")


def _container_security(pod: Pod, path: str, container: Manifest) -> Iterator[Finding]:
    context = container.get("securityContext") or {}
    field = f"{path}.securityContext"
    if context.get("allowPrivilegeEscalation") is not False:
        yield Finding(pod.where, f"{field}.allowPrivilegeEscalation", "is not false")
    if (context.get("capabilities") or {}).get("drop") != ["ALL"]:
        yield Finding(pod.where, f"{field}.capabilities", "does not drop ALL")
    if "readOnlyRootFilesystem" not in context:
        yield Finding(pod.where, f"{field}.readOnlyRootFilesystem", "is not said")


def check_read_only(objects: Objects) -> Iterator[Finding]:
    """Yield a finding for each container that may write to its image; only development's may."""
    for pod in objects.pods():
        for path, container in pod.containers():
            if (container.get("securityContext") or {}).get("readOnlyRootFilesystem") is not True:
                yield Finding(pod.where, f"{path}.securityContext.readOnlyRootFilesystem", "is not true")


def _resources(pod: Pod, path: str, container: Manifest) -> Iterator[Finding]:
    resources = container.get("resources") or {}
    for name in ("cpu", "memory"):
        values = {}
        for side in ("requests", "limits"):
            text = (resources.get(side) or {}).get(name)
            values[side] = quantity(text) if text is not None else None
            if values[side] is None:
                problem = f"{text!r} is no quantity" if text else "is not set"
                yield Finding(pod.where, f"{path}.resources.{side}.{name}", problem)
        if values["requests"] and values["limits"] and values["requests"] > values["limits"]:
            yield Finding(pod.where, f"{path}.resources.requests.{name}", "is more than its limit")


def _probes(pod: Pod, path: str, container: Manifest) -> Iterator[Finding]:
    ports = container.get("ports") or []
    known = {port["containerPort"] for port in ports} | {port.get("name") for port in ports}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        spec = container.get(probe)
        if spec is None:
            if probe == "readinessProbe" and path.startswith("containers"):
                yield Finding(pod.where, f"{path}.{probe}", "is missing: traffic would come before it serves")
            continue
        for action in ("grpc", "httpGet", "tcpSocket"):
            port = (spec.get(action) or {}).get("port")
            if port is not None and port not in known:
                yield Finding(
                    pod.where, f"{path}.{probe}", f"asks port {port!r}; there are {sorted(known, key=str)}"
                )


def _mounts(pod: Pod, path: str, container: Manifest) -> Iterator[Finding]:
    volumes = {volume["name"] for volume in pod.spec.get("volumes") or []} | _claims(pod)
    for mount in container.get("volumeMounts") or []:
        if mount["name"] not in volumes:
            yield Finding(pod.where, f"{path}.volumeMounts", f"there is no volume {mount['name']!r}")


def _writable(objects: Objects, pod: Pod, path: str, container: Manifest) -> Iterator[Finding]:
    """Check that a folder which the service writes to is on a volume."""
    if path.startswith("initContainers"):
        return
    mounts = [m["mountPath"] for m in container.get("volumeMounts") or [] if not m.get("readOnly")]
    for name, value in given(objects, pod, container):
        there = any(f"{value}/".startswith(f"{mount}/") for mount in mounts)
        if name.startswith("SLIPWAY_") and name.endswith("_DIR") and not there:
            yield Finding(pod.where, f"{path}.env.{name}", f"{value} is on no volume that can be written")


def _after_sidecar(pod: Pod) -> Iterator[Finding]:
    field = "annotations.proxy.istio.io/config"
    told = pod.annotations.get("proxy.istio.io/config", "")
    if pod.kind == "Deployment" and "holdApplication" not in told:
        yield Finding(pod.where, field, "says no holdApplicationUntilProxyStarts: its first calls would fail")


def _migrated(objects: Objects, pod: Pod) -> Iterator[Finding]:
    """Check that whoever serves from a database brings it up to date first."""
    for path, container in pod.containers():
        serves = path.startswith("containers") and container.get("args") == ["serve"]
        if serves and "SLIPWAY_DATABASE_URL" in dict(given(objects, pod, container)):
            earlier = [
                one["image"] for one in pod.spec.get("initContainers") or [] if one.get("args") == ["migrate"]
            ]
            if container["image"] not in earlier:
                yield Finding(pod.where, "initContainers", "none of them migrates the database")


def _claims(pod: Pod) -> set[str]:
    return set(pod.claims)


def _references(objects: Objects, pod: Pod) -> Iterator[Finding]:
    for volume in pod.spec.get("volumes") or []:
        name = (volume.get("configMap") or {}).get("name", _EVERYWHERE)
        if name != _EVERYWHERE and not objects.find("ConfigMap", pod.namespace, name):
            yield Finding(pod.where, f"volumes.{volume['name']}", f"no ConfigMap {name!r}")
    for path, container in pod.containers():
        for source in container.get("envFrom") or []:
            name = (source.get("configMapRef") or {}).get("name")
            if name and not objects.find("ConfigMap", pod.namespace, name):
                yield Finding(pod.where, f"{path}.envFrom", f"no ConfigMap {pod.namespace}/{name}")


def check_secrets(objects: Objects) -> Iterator[Finding]:
    """Yield a finding for each secret or key that a pod wants and nobody makes."""
    for pod in objects.pods():
        for name, key, field in _wanted_secrets(pod):
            secret = objects.find("Secret", pod.namespace, name)
            held = {**((secret or {}).get("data") or {}), **((secret or {}).get("stringData") or {})}
            if secret is None or (key and key not in held):
                yield Finding(
                    pod.where, field, f"no Secret {pod.namespace}/{name}{' with key ' + key if key else ''}"
                )


def _wanted_secrets(pod: Pod) -> Iterator[tuple[str, str, str]]:
    for volume in pod.spec.get("volumes") or []:
        if "secret" in volume:
            yield volume["secret"]["secretName"], "", f"volumes.{volume['name']}"
    for path, container in pod.containers():
        for variable in container.get("env") or []:
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if reference:
                yield reference["name"], reference["key"], f"{path}.env.{variable['name']}"


def _services(objects: Objects) -> Iterator[Finding]:
    for service in objects.of("Service"):
        selector = service["spec"].get("selector") or {}
        pods = objects.hit_by(selector, namespace_of(service)) if selector else []
        if selector and not pods and not namespace_of(service).startswith("istio-"):  # Istio has its own
            yield Finding(where(service), "spec.selector", f"{selector} hits no pod")
        for port in service["spec"]["ports"]:
            protocol = port.get("appProtocol") or str(port.get("name", "")).partition("-")[0]
            field = f"spec.ports.{port.get('name', port['port'])}"
            if protocol not in _PROTOCOLS:
                yield Finding(where(service), field, "names no protocol: call it grpc-*, http-* or tcp-*")
            target = port.get("targetPort", port["port"])
            if pods and not any(target in _ports(pod) for pod in pods):
                yield Finding(where(service), field, f"targetPort {target!r} is no port of its pods")


def _ports(pod: Pod) -> set[object]:
    listed = [port for _, container in pod.containers() for port in container.get("ports") or []]
    return {port["containerPort"] for port in listed} | {port.get("name") for port in listed}


def _budgets_and_scalers(objects: Objects) -> Iterator[Finding]:
    for budget in objects.of("PodDisruptionBudget"):
        selector = budget["spec"]["selector"].get("matchLabels") or {}
        if not objects.hit_by(selector, namespace_of(budget)):
            yield Finding(where(budget), "spec.selector", f"{selector} hits no pod")
    for scaler in objects.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        if objects.find(target["kind"], namespace_of(scaler), target["name"]) is None:
            yield Finding(
                where(scaler), "spec.scaleTargetRef", f"there is no {target['kind']} {target['name']!r}"
            )
