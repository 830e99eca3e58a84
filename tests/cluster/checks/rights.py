"""Who may do what: rollout's Role is exactly what its driver does; nobody else has one."""

from collections.abc import Iterator

from .objects import Finding, Objects, namespace_of, where

_PUBLIC_KEYS = "system:service-account-issuer-discovery"
_DRIVER = {
    ("", "services"): {"get", "create", "delete"},
    ("apps", "deployments"): {"get", "create", "patch", "delete"},
    ("networking.istio.io", "virtualservices"): {"get", "create", "patch", "delete"},
    ("networking.istio.io", "destinationrules"): {"get", "create", "patch", "delete"},
}


def check(objects: Objects) -> Iterator[Finding]:
    """Yield a finding for each right that is too much or too little."""
    for kind in objects.of("ClusterRole", "ClusterRoleBinding"):
        if kind.get("roleRef", {}).get("name") != _PUBLIC_KEYS:
            yield Finding(where(kind), "kind", "no service needs rights on the whole cluster")
    role = objects.find("Role", "slipway-models", "rollout")
    if role is None:
        yield Finding("Role slipway-models/rollout", "metadata.name", "is missing: rollout may write nothing")
        return
    granted: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                granted.setdefault((group, resource), set()).update(rule["verbs"])
    for key in sorted({*granted, *_DRIVER}):
        have, need = granted.get(key, set()), _DRIVER.get(key, set())
        for verb in sorted(have - need):
            yield Finding(where(role), f"rules.{key[1]}", f"{verb!r} is more than the driver does")
        for verb in sorted(need - have):
            yield Finding(where(role), f"rules.{key[1]}", f"{verb!r} is missing")
    yield from _bindings(objects)
    yield from _weights_policy(objects)


def _bindings(objects: Objects) -> Iterator[Finding]:
    for binding in objects.of("RoleBinding"):
        if objects.find("Role", namespace_of(binding), binding["roleRef"]["name"]) is None:
            yield Finding(where(binding), "roleRef", f"there is no Role {binding['roleRef']['name']!r}")
        for subject in binding["subjects"]:
            name, namespace = subject["name"], subject.get("namespace", "")
            if objects.find("ServiceAccount", namespace, name) is None:
                yield Finding(where(binding), "subjects", f"there is no ServiceAccount {namespace}/{name}")


def _weights_policy(objects: Objects) -> Iterator[Finding]:
    policies = {policy["metadata"]["name"] for policy in objects.of("ValidatingAdmissionPolicy")}
    bound = {binding["spec"]["policyName"] for binding in objects.of("ValidatingAdmissionPolicyBinding")}
    for name in sorted(bound - policies):
        place = "ValidatingAdmissionPolicyBinding"
        yield Finding(place, "spec.policyName", f"there is no ValidatingAdmissionPolicy {name!r}")
    if "slipway-route-weights" not in policies & bound:
        place = "ValidatingAdmissionPolicy slipway-route-weights"
        yield Finding(place, "metadata.name", "is missing or not bound: bad weights would be taken")
