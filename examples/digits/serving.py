"""Steps 7 to 10: deploy, batch, split, two endpoints side by side, and one traced prediction."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import tritonclient.grpc as triton
from data import Picture, tensor, write_inputs
from scipy.stats import binomtest
from slipway.monitoring.v1 import monitoring_pb2 as mon
from slipway.rollout.v1 import rollout_pb2 as rol

if TYPE_CHECKING:
    from story import Story

CALLERS = 32
READY_WITHIN_S = 60.0
SPANS_WITHIN_S = 15.0
CONFIDENCE = 0.99


def deploy(story: "Story") -> None:
    """(7) Deploy v1 behind an endpoint; the first version gets all traffic once it is ready."""
    with story.steps.step("deploy v1") as step:
        config = rol.ServingConfig(capture_policy="all")  # the third act learns from what it sees
        story.endpoint = _endpoint(story, story.plot.name, config)
        begin = time.monotonic()
        _deploy(story, story.endpoint, 0)
        step.figures |= {"ready_s": round(time.monotonic() - begin, 2)}
        step.headline = f"{story.endpoint} serves {story.subsets[0]}, ready after {step.figures['ready_s']} s"


def batching(story: "Story") -> None:
    """(7) 32 concurrent tritonclient callers, beside the same load on a slot with batch size 1."""
    with story.steps.step("batching") as step:
        single = _endpoint(story, f"{story.plot.name}-single", rol.ServingConfig(max_batch_rows=1))
        _deploy(story, single, 0)
        passes: dict[str, list[dict[str, Any]]] = {story.endpoint: [], single: []}
        for endpoint in (story.endpoint, single, single, story.endpoint):  # mirrored: noise hits both
            seconds = story.plot.load_seconds / 2
            passes[endpoint].append(_load(story, endpoint, requests=10**6, seconds=seconds))
        batched, alone = (_merge(passes[endpoint]) for endpoint in (story.endpoint, single))
        histogram = _histogram(story, story.endpoint, story.subsets[0])
        mean_rows = sum(rows * count for rows, count in histogram.items()) / max(sum(histogram.values()), 1)
        step.figures |= {f"batch_{rows}": count for rows, count in sorted(histogram.items())}
        step.figures |= {f"batched_{key}": value for key, value in batched.items()}
        step.figures |= {f"single_{key}": value for key, value in alone.items()}
        step.figures |= {"mean_batch_rows": mean_rows}
        step.figures |= {"throughput_ratio": batched["throughput"] / alone["throughput"]}
        step.headline = (
            f"{CALLERS} callers: {batched['throughput']:.0f}/s, p50 {batched['p50_ms']:.1f} ms, "
            f"p99 {batched['p99_ms']:.1f} ms, mean batch {mean_rows:.1f} rows; "
            f"batch size 1: {alone['throughput']:.0f}/s, p99 {alone['p99_ms']:.1f} ms"
        )
        _undeploy(story, single)
        if batched["failed"] or alone["failed"]:
            raise AssertionError(f"{batched['failed'] + alone['failed']:.0f} requests failed")


def split(story: "Story") -> None:
    """(8) 90/10 to v2, measured on the servers; then 50/50 under load without a failed request."""
    with story.steps.step("split 90/10") as step:
        _deploy(story, story.endpoint, 1)
        _set_split(story, 90, 10)
        share, low, high, n = _measure_share(story)
        missed = not low <= 0.1 <= high
        if missed:  # as one interval of a hundred does; two of them say that the split is wrong
            share, low, high, n = _measure_share(story)
        step.figures |= {"asked": 0.1, "measured": share, "low_99": low, "high_99": high, "n": n}
        step.figures |= {"measured_again": missed}
        which = f"{story.subsets[1]}{' (measured again)' if missed else ''}"
        step.headline = f"{which} got {share:.4f} of {n}; 99 % interval {low:.4f} to {high:.4f}, asked 0.1"
        if not low <= 0.1 <= high:
            raise AssertionError("twice the interval does not cover the asked weight")
    with story.steps.step("split 50/50 under load") as step:
        process = _start_load(story, story.endpoint, requests=10**6, seconds=story.plot.load_seconds)
        time.sleep(story.plot.load_seconds / 2)
        _set_split(story, 50, 50)
        report = _finish(story, process)
        step.figures |= {"requests": report["requests"], "failed": report["failed"]}
        step.figures |= {f"answers_{version}": count for version, count in report["versions"].items()}
        step.headline = f"{report['failed']} of {report['requests']} requests failed while the weights moved"
        if report["failed"]:
            raise AssertionError(f"requests failed: {report['errors']}")


def side_by_side(story: "Story") -> None:
    """(9) A second endpoint beside the first: each counts its own requests and no others."""
    with story.steps.step("two endpoints") as step:
        other = _endpoint(story, f"{story.plot.name}-beside", rol.ServingConfig())
        _deploy(story, other, 1)
        before = {subset: _count(story, story.endpoint, subset) for subset in story.subsets}
        report = _load(story, other, requests=400, seconds=10)
        after = {subset: _count(story, story.endpoint, subset) for subset in story.subsets}
        own = _count(story, other, story.subsets[1])
        crossed = sum(after.values()) - sum(before.values())
        step.figures |= {"requests": report["requests"], "counted": own, "crossed": crossed}
        step.headline = (
            f"{own} of {report['requests']} counted by the second endpoint, {crossed} by the first"
        )
        _undeploy(story, other)
        if crossed or own != report["requests"]:
            raise AssertionError("requests crossed from one endpoint to the other")


def trace(story: "Story") -> None:
    """(10) One prediction over REST, traced to the engine that made it."""
    with story.steps.step("trace") as step:
        picture = story.plot.pictures[0]
        answer = _predict_rest(story, picture)
        prediction = answer["parameters"]["prediction_id"]
        found = _spans(story, prediction)
        services = list(dict.fromkeys(span.service for span in found.spans))
        step.figures |= {"spans": len(found.spans), "services": len(set(services))}
        step.headline = f"{prediction}: {len(found.spans)} spans over {', '.join(services)}"
        story.steps.console.print(f"   look: slipway trace {prediction}")


def _endpoint(story: "Story", name: str, config: Any) -> str:
    endpoint = rol.Endpoint(model=f"models/{story.plot.name}", serving_config=config)
    request = rol.CreateEndpointRequest(endpoint_id=name, endpoint=endpoint)
    return str(story.client.rollout.CreateEndpoint(request).name)


def _deploy(story: "Story", endpoint: str, index: int) -> None:
    deploy_version(story, endpoint, story.versions[index].name)


def deploy_version(story: "Story", endpoint: str, version: str) -> None:
    """Deploy a version and wait until it is ready."""
    story.client.rollout.DeployVersion(rol.DeployVersionRequest(name=endpoint, model_version=version))
    stop_at = time.monotonic() + READY_WITHIN_S
    while True:
        now = story.client.rollout.GetEndpoint(rol.GetEndpointRequest(name=endpoint))
        served = {served.model_version: served for served in now.served_versions}[version]
        first = len(now.served_versions) == 1
        if served.state == rol.ServedVersion.READY and (served.weight == 100 or not first):
            return
        if served.state == rol.ServedVersion.FAILED or time.monotonic() > stop_at:
            raise AssertionError(
                f"{version} did not come up behind {endpoint}: {served.error or served.state}"
            )
        time.sleep(0.1)


def _undeploy(story: "Story", endpoint: str) -> None:
    story.client.rollout.DeleteEndpoint(rol.DeleteEndpointRequest(name=endpoint, force=True))


def _set_split(story: "Story", *percent: int) -> None:
    weights = dict(zip(story.subsets, percent, strict=True))
    story.client.rollout.SetSplit(rol.SetSplitRequest(name=story.endpoint, weights=weights))


def _measure_share(story: "Story") -> tuple[float, float, float, int]:
    """Return the second version's share by the servers' counts, its Clopper–Pearson interval, and n."""
    time.sleep(1.0)  # the weights reach the proxy
    before = {subset: _count(story, story.endpoint, subset) for subset in story.subsets}
    _load(story, story.endpoint, requests=story.plot.split_requests, seconds=60)
    counts = {subset: _count(story, story.endpoint, subset) - before[subset] for subset in story.subsets}
    n = sum(counts.values())
    second = counts[story.subsets[1]]
    interval = binomtest(second, n).proportion_ci(CONFIDENCE, method="exact")
    return second / n, float(interval.low), float(interval.high), n


def _headers(story: "Story", endpoint: str, subset: str = "") -> dict[str, str]:
    headers = {"authorization": f"Bearer {story.client.token()}"}
    headers["slipway-endpoint"] = endpoint.removeprefix("endpoints/")
    if subset:
        headers["slipway-version"] = subset
    return headers


def _statistics(story: "Story", endpoint: str, subset: str) -> Any:
    """Return what the front of one version says of itself, reached by the testers' header."""
    with triton.InferenceServerClient(f"127.0.0.1:{story.port_base + 1}") as client:
        name = endpoint.removeprefix("endpoints/")
        statistics = client.get_inference_statistics(name, headers=_headers(story, endpoint, subset))
        return statistics.model_stats[0]


def _count(story: "Story", endpoint: str, subset: str) -> int:
    return int(_statistics(story, endpoint, subset).inference_stats.success.count)


def _histogram(story: "Story", endpoint: str, subset: str) -> dict[int, int]:
    """Return executed batches by their rows."""
    stats = _statistics(story, endpoint, subset)
    return {int(row.batch_size): int(row.compute_infer.count) for row in stats.batch_stats}


def _start_load(story: "Story", endpoint: str, *, requests: int, seconds: float) -> subprocess.Popen[str]:
    sample = [p for p in story.plot.pictures if p.key][:256]
    inputs = write_inputs(sample, story.plot.classes)
    command = [sys.executable, str(Path(__file__).with_name("load.py")), "--inputs", str(inputs)]
    command += ["--url", f"127.0.0.1:{story.port_base + 1}", "--callers", str(CALLERS)]
    command += ["--endpoint", endpoint.removeprefix("endpoints/")]
    command += ["--requests", str(requests), "--seconds", str(seconds)]
    environment = {**os.environ, "SLIPWAY_TOKEN": story.client.token()}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _finish(story: "Story", process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate(timeout=120)
    if process.returncode != 0:
        raise RuntimeError("the load generator failed; its message is above")
    report: dict[str, Any] = json.loads(output)
    story.shown |= report.pop("shown")
    return report


def _load(story: "Story", endpoint: str, *, requests: int, seconds: float) -> dict[str, Any]:
    return _finish(story, _start_load(story, endpoint, requests=requests, seconds=seconds))


def _merge(reports: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mean throughput and p50, the worst p99, and the failed requests of all passes."""
    return {
        "throughput": sum(r["throughput"] for r in reports) / len(reports),
        "throughput_low": min(r["throughput"] for r in reports),
        "throughput_high": max(r["throughput"] for r in reports),
        "p50_ms": sum(r["p50_ms"] for r in reports) / len(reports),
        "p99_ms": max(r["p99_ms"] for r in reports),
        "failed": sum(r["failed"] for r in reports),
        "little": sum(r["little"] for r in reports) / len(reports),
    }


def _predict_rest(story: "Story", picture: Picture) -> dict[str, Any]:
    image = tensor(picture)
    body = {
        "inputs": [
            {"name": "image", "datatype": "UINT8", "shape": list(image.shape), "data": image.ravel().tolist()}
        ]
    }
    name = story.endpoint.removeprefix("endpoints/")
    answer = httpx.post(
        f"http://127.0.0.1:{story.port_base}/v2/models/{name}/infer",
        json=body,
        headers={"authorization": f"Bearer {story.client.token()}"},
        timeout=30,
    )
    answer.raise_for_status()
    return dict(answer.json())


def _spans(story: "Story", prediction: str) -> Any:
    """Return the prediction's trace once it reaches from the door to the front, with no loose span."""
    stop_at = time.monotonic() + SPANS_WITHIN_S
    wanted = {"ingress", "gateway", "inference"}
    while True:
        try:
            found = story.client.monitoring.FindTrace(mon.FindTraceRequest(prediction_id=prediction))
        except Exception:
            if time.monotonic() > stop_at:
                raise
        else:
            known = {span.span_id for span in found.spans}
            loose = [span for span in found.spans if span.parent_span_id not in known]
            if wanted <= {span.service for span in found.spans} and len(loose) == 1:
                return found
            if time.monotonic() > stop_at:
                raise AssertionError(f"the trace holds only {[s.service for s in found.spans]}")
        time.sleep(0.3)
