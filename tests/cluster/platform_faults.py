"""Seeded faults in identity, doors, stores and images: what only a running cluster would show otherwise."""

from faults import BASE, Change, Fault, Manifest

_IDENTITY = "deploy/istio/identity.yaml"
_TOKENS = "RequestAuthentication slipway/tokens-ingestion"
_POLICIES = "deploy/istio/who-may-call-whom.yaml"
_DEPLOYMENT = f"{BASE}/registry/deployment.yaml"
_REGISTRY = "Deployment slipway/registry"
_STORE = f"{BASE}/postgresql/stateful-set.yaml"
_JWKS = "      jwksUri: http://gateway.slipway.svc.cluster.local:8080/.well-known/jwks.json\n"
_CLUSTER = "    - issuer: https://kubernetes.default.svc.cluster.local\n      audiences: [slipway]\n"


def _lacking(kind: str, name: str) -> Change:
    def change(objects: list[Manifest]) -> None:
        objects[:] = [o for o in objects if (o["kind"], o["metadata"]["name"]) != (kind, name)]

    return change


def _no_way_in(objects: list[Manifest]) -> None:
    door = next(o for o in objects if o["metadata"]["name"] == "grpc-door")
    door["spec"]["http"] = [route for route in door["spec"]["http"] if route["name"] != "registry"]


def _no_hold(objects: list[Manifest]) -> None:
    pod = next(o for o in objects if o["metadata"]["name"] == "numbers-v1" and o["kind"] == "Deployment")
    del pod["spec"]["template"]["metadata"]["annotations"]


def _stateless_model_pod(objects: list[Manifest]) -> None:
    pod = next(o for o in objects if o["metadata"]["name"] == "numbers-v1" and o["kind"] == "Deployment")
    pod["spec"]["template"]["spec"]["volumes"] = [
        volume for volume in pod["spec"]["template"]["spec"]["volumes"] if volume["name"] != "state"
    ]
    container = pod["spec"]["template"]["spec"]["containers"][0]
    container["volumeMounts"] = [one for one in container["volumeMounts"] if one["name"] != "state"]


PLATFORM_FAULTS = (
    Fault(
        "anybody-may-call",
        _REGISTRY,
        "AuthorizationPolicy: is missing",
        change=_lacking("AuthorizationPolicy", "registry"),
    ),
    Fault(
        "no-token-is-checked",
        _REGISTRY,
        "RequestAuthentication: is missing",
        change=_lacking("RequestAuthentication", "tokens-registry"),
    ),
    Fault(
        "no-route-in-the-mesh",
        _REGISTRY,
        "VirtualService: none routes",
        change=_lacking("VirtualService", "registry"),
    ),
    Fault("no-way-in", _REGISTRY, "grpc-door: has no route", change=_no_way_in),
    Fault(
        "model-pod-before-its-sidecar",
        "Deployment slipway-models/numbers-v1",
        "proxy.istio.io/config",
        change=_no_hold,
    ),
    Fault(
        "keys-behind-mutual-tls",
        _TOKENS,
        "jwksUri: istiod reads the keys",
        _IDENTITY,
        "mode: PERMISSIVE",
        "mode: STRICT",
    ),
    Fault(
        "keys-for-named-callers-alone",
        _TOKENS,
        "jwksUri: Deployment slipway/gateway lets not all in",
        _POLICIES,
        "    - to: [{operation: {paths: [/.well-known/jwks.json]}}]\n",
        "",
    ),
    Fault("issuer-without-keys", _TOKENS, "jwksUri: ''", _IDENTITY, _CLUSTER + _JWKS, _CLUSTER),
    Fault(
        "keys-at-no-port",
        _TOKENS,
        "jwksUri: there is no port 8090",
        _IDENTITY,
        "cluster.local:8080/",
        "cluster.local:8090/",
    ),
    Fault(
        "other-issuer", _TOKENS, "jwtRules.issuer", _IDENTITY, "issuer: slipway-gateway", "issuer: gateway"
    ),
    Fault("other-audience", _TOKENS, "audiences", _IDENTITY, "audiences: [slipway]", "audiences: [api]"),
    Fault(
        "token-for-others",
        _REGISTRY,
        "serviceAccountToken.audience",
        _DEPLOYMENT,
        "audience: slipway",
        "audience: api",
    ),
    Fault(
        "token-elsewhere",
        _REGISTRY,
        "env.SLIPWAY_TOKEN_FILE",
        _DEPLOYMENT,
        "mountPath: /var/run/secrets/slipway,",
        "mountPath: /var/run/secrets/tokens,",
    ),
    Fault(
        "caller-shut-out",
        "Deployment slipway/rollout",
        "env.SLIPWAY_REGISTRY: no AuthorizationPolicy of registry",
        _POLICIES,
        "              - cluster.local/ns/slipway/sa/rollout\n",
        "",
    ),
    Fault(
        "gateway-shut-out",
        "Deployment slipway/gateway",
        "env.SLIPWAY_INGESTION: no AuthorizationPolicy of ingestion",
        _POLICIES,
        "              - cluster.local/ns/slipway/sa/gateway\n",
        "",
    ),
    Fault(
        "spans-shut-out",
        "Deployment slipway/ingestion",
        "env.SLIPWAY_OTLP_ENDPOINT",
        _POLICIES,
        'ports: ["4317"]',
        'ports: ["4318"]',
    ),
    Fault(
        "migration-never-ends",
        _REGISTRY,
        "initContainers[0].command",
        _DEPLOYMENT,
        "          command: [/opt/venv/bin/service]\n",
        "",
    ),
    Fault("no-migration", _REGISTRY, "initContainers", _DEPLOYMENT, "args: [migrate]", "args: [serve]"),
    Fault(
        "work-dir-read-only",
        "Deployment slipway/training-worker-worker",
        "env.SLIPWAY_WORK_DIR",
        f"{BASE}/training-worker/worker.yaml",
        "/var/lib/slipway/training",
        "/srv/training",
    ),
    Fault(
        "model-pod-without-state",
        "Deployment slipway-models/numbers-v1",
        "env.SLIPWAY_SPOOL_DIR",
        change=_stateless_model_pod,
    ),
    Fault(
        "starts-before-its-sidecar",
        _REGISTRY,
        "proxy.istio.io/config",
        f"{BASE}/sidecar.yaml",
        "holdApplicationUntilProxyStarts",
        "hold",
    ),
    Fault(
        "sync-into-read-only",
        _REGISTRY,
        "readOnlyRootFilesystem",
        "deploy/k8s/overlays/dev/writable.yaml",
        "value: false",
        "value: true",
    ),
    Fault(
        "door-without-a-port",
        "Gateway slipway/grpc",
        "spec.servers.port",
        "deploy/istio/gateway.yaml",
        "    - {name: grpc-door, port: 8081, targetPort: 8081, appProtocol: grpc}\n",
        "",
    ),
    Fault(
        "door-of-other-pods",
        "Gateway slipway/rest",
        "spec.selector",
        "deploy/istio/gateway.yaml",
        "spec:\n  selector: {istio: ingressgateway}\n  servers: [{port: {number: 8080",
        "spec:\n  selector: {istio: ingress}\n  servers: [{port: {number: 8080",
    ),
    Fault(
        "forwards-no-door",
        "skaffold.yaml slipway",
        "istio-system/slipway-doors with port 8082",
        "skaffold.yaml",
        "port: 8081",
        "port: 8082",
    ),
    Fault(
        "route-takes-every-port",
        "VirtualService slipway/monitoring",
        "spec.http[monitoring].match.port: is not said",
        "deploy/istio/services.yaml",
        "    - name: monitoring\n      match: [{port: 8500}]\n",
        "    - name: monitoring\n",
    ),
    Fault(
        "route-to-another-port",
        "VirtualService slipway/monitoring",
        "calls to 4317 would go to [8500]",
        "deploy/istio/services.yaml",
        "monitoring.slipway.svc.cluster.local, port: {number: 4317}",
        "monitoring.slipway.svc.cluster.local, port: {number: 8500}",
    ),
    Fault(
        "store-open-to-all",
        "StatefulSet slipway/postgresql",
        "NetworkPolicy: is missing",
        f"{BASE}/postgresql/kustomization.yaml",
        "  - network-policy.yaml\n",
        "",
    ),
    Fault(
        "network-policy-hits-no-pod",
        "NetworkPolicy slipway/postgresql",
        "spec.podSelector",
        f"{BASE}/postgresql/network-policy.yaml",
        "{app: postgresql}",
        "{app: postgres}",
    ),
    Fault(
        "network-policy-for-another-port",
        "StatefulSet slipway/postgresql",
        "NetworkPolicy: lets in at [5433]",
        f"{BASE}/postgresql/network-policy.yaml",
        "port: 5432",
        "port: 5433",
    ),
    Fault(
        "no-claim",
        "StatefulSet slipway/postgresql",
        "volumeMounts: there is no volume 'data'",
        _STORE,
        "        name: data\n",
        "        name: date\n",
    ),
    Fault(
        "no-head-service",
        "StatefulSet slipway/postgresql",
        "spec.serviceName",
        _STORE,
        "serviceName: postgresql",
        "serviceName: postgres",
    ),
    Fault(
        "floating-image",
        "StatefulSet slipway/postgresql",
        "image",
        _STORE,
        "postgres:18.1-bookworm",
        "postgres",
    ),
    Fault(
        "nobody-makes-the-role",
        "Secret slipway/registry-database",
        "data.url",
        "deploy/k8s/overlays/dev/kustomization.yaml",
        "      - registry=dev-only\n",
        "",
    ),
    Fault(
        "builds-all-again",
        "skaffold.yaml gateway",
        "build.tagPolicy",
        "skaffold.yaml",
        "inputDigest: {}",
        "gitCommit: {}",
    ),
    Fault(
        "image-lacks-an-extra",
        "deploy/docker/requirements.py",
        "training-worker: leaves 'onnx' out",
        "deploy/docker/requirements.py",
        'match["extras"] or ""',
        '""',
    ),
)
