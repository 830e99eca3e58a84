"""RequestAuthentication and AuthorizationPolicy as Envoy filters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slipway_local.credentials import PLATFORM_ISSUER
from slipway_local.mesh.envoy import typed
from slipway_local.mesh.objects import Manifest

Resource = dict[str, Any]
GATEWAY_ISSUER = "slipway-gateway"


def jwt_filter(rules: Sequence[Manifest], jwks: Path) -> list[Resource]:
    """Return the filter that refuses a token that is no good; a call without one passes, as in Istio.

    On the laptop all keys are in one file, and the platform stands for the cluster as an issuer.
    """
    if not rules:
        return []
    issuers = [GATEWAY_ISSUER if r["issuer"] == GATEWAY_ISSUER else PLATFORM_ISSUER for r in rules]
    providers = {
        issuer: {
            "issuer": issuer,
            "audiences": rule["audiences"],
            "local_jwks": {"filename": str(jwks)},
            "forward": True,
        }
        for issuer, rule in zip(issuers, rules, strict=True)
    }
    any_of = [*({"provider_name": issuer} for issuer in providers), {"allow_missing": {}}]
    config = typed(
        "extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers=providers,
        rules=[{"match": {"prefix": "/"}, "requires": {"requires_any": {"requirements": any_of}}}],
    )
    return [{"name": "envoy.filters.http.jwt_authn", "typed_config": config}]


def rbac_filter(policies: Sequence[Manifest]) -> list[Resource]:
    """Return the filter that lets through who is named and refuses everybody else."""
    rendered = {
        f"{policy['metadata']['name']}-{index}": {
            "principals": _principals(rule),
            "permissions": _permissions(rule),
        }
        for policy in policies
        for index, rule in enumerate(policy["spec"].get("rules", []))
    }
    config = typed("extensions.filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": rendered})
    return [{"name": "envoy.filters.http.rbac", "typed_config": config}]


def _principals(rule: Manifest) -> list[Resource]:
    sources = [entry["source"] for entry in rule.get("from", [])]
    if not sources:
        return [{"any": True}]
    found: list[Resource] = []
    for source in sources:
        found += [_named({"exact": f"spiffe://{name}"}) for name in source.get("principals", [])]
        found += [
            _named({"prefix": f"spiffe://cluster.local/ns/{name}/"}) for name in source.get("namespaces", [])
        ]
    return found


def _named(matcher: Resource) -> Resource:
    return {"authenticated": {"principal_name": matcher}}


def _permissions(rule: Manifest) -> list[Resource]:
    operations = [entry["operation"] for entry in rule.get("to", [])]
    if not operations:
        return [{"any": True}]
    found: list[Resource] = []
    for operation in operations:
        found += [{"url_path": {"path": {"exact": path}}} for path in operation.get("paths", [])]
        found += [{"destination_port": int(port)} for port in operation.get("ports", [])]
    return found
