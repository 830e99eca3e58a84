"""The stateful needs: claims, head Services, who may reach them, and a database for whoever wants one."""

import base64
from collections.abc import Iterator

from .objects import Finding, Objects, Pod, namespace_of, where

_DATABASE = "-database"


def check(objects: Objects) -> Iterator[Finding]:
    """Yield a finding for each store that loses its data, is open to all, or lacks a database."""
    for store in objects.of("StatefulSet"):
        name = store["spec"].get("serviceName", "")
        head = objects.find("Service", namespace_of(store), name)
        if head is None or head["spec"].get("clusterIP") != "None":
            yield Finding(where(store), "spec.serviceName", f"there is no headless Service {name!r}")
    for pod in objects.pods():
        if pod.kind == "StatefulSet":
            yield from _guarded(objects, pod)
        yield from _pinned(pod)
    for policy in objects.of("NetworkPolicy"):
        labels = policy["spec"]["podSelector"].get("matchLabels") or {}
        if not objects.hit_by(labels, namespace_of(policy)):
            yield Finding(where(policy), "spec.podSelector", f"{labels} hits no pod")


def _guarded(objects: Objects, pod: Pod) -> Iterator[Finding]:
    ports = {port["containerPort"] for _, c in pod.containers() for port in c.get("ports") or []}
    policies = [
        policy["spec"]
        for policy in objects.of("NetworkPolicy")
        if namespace_of(policy) == pod.namespace
        and (policy["spec"]["podSelector"].get("matchLabels") or {}).items() <= pod.labels.items()
    ]
    if pod.labels.get("sidecar.istio.io/inject") == "false" and not policies:
        yield Finding(pod.where, "NetworkPolicy", "is missing: without a sidecar anybody may reach it")
    let = {port["port"] for spec in policies for rule in spec.get("ingress") or [] for port in rule["ports"]}
    if policies and let != ports:
        yield Finding(pod.where, "NetworkPolicy", f"lets in at {sorted(let)}, pods listen at {sorted(ports)}")


def _pinned(pod: Pod) -> Iterator[Finding]:
    for path, container in pod.containers():
        image = container["image"]
        tag = image.rpartition("/")[2].partition(":")[2]
        if not image.startswith("slipway-") and tag in ("", "latest"):
            yield Finding(pod.where, f"{path}.image", f"{image!r} has no fixed tag")


def check_databases(objects: Objects) -> Iterator[Finding]:
    """Yield a finding for each database's URL that names a role, password or database that nobody makes."""
    users = objects.find("Secret", "slipway", "postgresql-users") or {}
    words = {name: _text(word) for name, word in (users.get("data") or {}).items()}
    for secret in objects.of("Secret"):
        name = secret["metadata"]["name"]
        if name.endswith(_DATABASE):
            role = name.removesuffix(_DATABASE)
            server = "postgresql.slipway.svc.cluster.local:5432"
            wanted = f"postgresql+psycopg://{role}:{words.get(role)}@{server}/{role}"
            if _text(secret["data"]["url"]) != wanted:
                problem = f"is not what postgresql-users makes for {role!r}"
                yield Finding(where(secret), "data.url", problem)


def _text(data: str) -> str:
    return base64.b64decode(data).decode()
