"""Who a call is from: keys that can be read, tokens that are accepted, callers that are let in."""

import re
from collections.abc import Iterator
from typing import Any

from .objects import Finding, Manifest, Objects, Pod, namespace_of, where
from .variables import PACKAGES, addresses, given

_URL = re.compile(r"http://([a-z0-9-]+)\.([a-z0-9-]+)\.svc\.cluster\.local:([0-9]+)(/.*)")
_ADDRESS = re.compile(r"([a-z0-9-]+)\.slipway\.svc\.cluster\.local:([0-9]+)")


def check(objects: Objects) -> Iterator[Finding]:
    """Yield a finding for each token, key or caller that the cluster would refuse."""
    from slipway_gateway.usecases import ISSUER
    from slipway_runtime.identity import AUDIENCE

    for policy in objects.of("RequestAuthentication"):
        rules = policy["spec"]["jwtRules"]
        if ISSUER not in [rule["issuer"] for rule in rules]:
            yield Finding(where(policy), "spec.jwtRules.issuer", f"{ISSUER!r} is not among them")
        for index, rule in enumerate(rules):
            field = f"spec.jwtRules[{index}]"
            if AUDIENCE not in rule.get("audiences", []):
                yield Finding(where(policy), f"{field}.audiences", f"{AUDIENCE!r} is not among them")
            yield from _keys(objects, policy, field, rule.get("jwksUri", ""))
    for pod in objects.pods():
        yield from _own_token(objects, pod, AUDIENCE)
        yield from _calls(objects, pod)


def _keys(objects: Objects, policy: Manifest, field: str, url: str) -> Iterator[Finding]:
    """Check what istiod meets: it is in no mesh, so it has neither a name nor a certificate."""
    match = _URL.fullmatch(url)
    if match is None:
        problem = f"{url!r} is no http address in the cluster: istiod could not read the keys"
        yield Finding(where(policy), f"{field}.jwksUri", problem)
        return
    name, namespace, port, path = match[1], match[2], int(match[3]), match[4]
    service = objects.find("Service", namespace, name)
    if service is None or port not in [one["port"] for one in service["spec"]["ports"]]:
        yield Finding(where(policy), f"{field}.jwksUri", f"there is no port {port} of {namespace}/{name}")
        return
    for pod in objects.hit_by(service["spec"]["selector"], namespace):
        if not _takes_plaintext(objects, pod, port):
            problem = f"istiod reads the keys of {pod.where} at {port} in plaintext, which its mtls refuses"
            yield Finding(where(policy), f"{field}.jwksUri", problem)
        if not _lets_anybody(objects, pod, path):
            yield Finding(where(policy), f"{field}.jwksUri", f"{pod.where} lets not all in at {path}")


def _selecting(objects: Objects, kind: str, pod: Pod) -> Iterator[Manifest]:
    for policy in objects.of(kind):
        labels = (policy["spec"].get("selector") or {}).get("matchLabels") or {}
        if namespace_of(policy) == pod.namespace and labels.items() <= pod.labels.items():
            yield policy


def _takes_plaintext(objects: Objects, pod: Pod, port: int) -> bool:
    found = list(_selecting(objects, "PeerAuthentication", pod))
    own = [policy for policy in found if policy["spec"].get("selector")] or found
    return all(_mode(policy["spec"], port) == "PERMISSIVE" for policy in own)


def _mode(spec: Manifest, port: int) -> str:
    at_port = (spec.get("portLevelMtls") or {}).get(str(port))
    return str((at_port or spec.get("mtls") or {}).get("mode"))


def _lets_anybody(objects: Objects, pod: Pod, path: str) -> bool:
    policies = list(_selecting(objects, "AuthorizationPolicy", pod))
    rules = [rule for policy in policies for rule in policy["spec"].get("rules") or []]
    open_paths = [
        one for rule in rules if "from" not in rule for to in rule["to"] for one in to["operation"]["paths"]
    ]
    return not policies or path in open_paths


def _own_token(objects: Objects, pod: Pod, audience: str) -> Iterator[Finding]:
    for path, container in pod.containers():
        wanted = dict(given(objects, pod, container)).get("SLIPWAY_TOKEN_FILE", "")
        if not wanted or path.startswith("initContainers"):
            continue
        mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts") or []}
        volume = mounts.get(wanted.rpartition("/")[0], "")
        tokens = [
            source["serviceAccountToken"]
            for one in pod.spec.get("volumes") or []
            if one["name"] == volume
            for source in (one.get("projected") or {}).get("sources") or []
            if "serviceAccountToken" in source
        ]
        if not any(token["path"] == wanted.rpartition("/")[2] for token in tokens):
            yield Finding(pod.where, f"{path}.env.SLIPWAY_TOKEN_FILE", f"no token is mounted at {wanted}")
        for token in tokens:
            if token.get("audience") != audience:
                problem = f"{token.get('audience')!r} is not {audience!r}: every service would refuse it"
                yield Finding(pod.where, f"volumes.{volume}.serviceAccountToken.audience", problem)


def _calls(objects: Objects, pod: Pod) -> Iterator[Finding]:
    """Check that each service whose address a pod is given lets it in."""
    account = f"cluster.local/ns/{pod.namespace}/sa/{pod.spec.get('serviceAccountName', '')}"
    for path, container in pod.containers():
        for name, value in addresses(objects, pod, container):
            match = _ADDRESS.fullmatch(str(value))
            if match is None or match[1] not in PACKAGES:
                continue
            for target in objects.hit_by({"app": match[1]}, "slipway"):
                if not _lets_in(objects, target, account, pod.namespace, match[2]):
                    problem = f"no AuthorizationPolicy of {match[1]} lets {account} in at {match[2]}"
                    yield Finding(pod.where, f"{path}.env.{name}", problem)


def _lets_in(objects: Objects, target: Pod, account: str, namespace: str, port: str) -> bool:
    policies = list(_selecting(objects, "AuthorizationPolicy", target))
    return not policies or any(
        _rule_lets_in(rule, account, namespace, port)
        for policy in policies
        for rule in policy["spec"].get("rules") or []
    )


def _rule_lets_in(rule: dict[str, Any], account: str, namespace: str, port: str) -> bool:
    sources = [one["source"] for one in rule.get("from") or []]
    named = not sources or any(
        account in source.get("principals", []) or namespace in source.get("namespaces", [])
        for source in sources
    )
    operations = [one["operation"] for one in rule.get("to") or []]
    there = not operations or any(
        "paths" not in operation and port in operation.get("ports", [port]) for operation in operations
    )
    return named and there
