"""The process that holds one engine: takes batches over a socket, reads and writes the shared region.

Messages are one packet each (SOCK_SEQPACKET). To the front: a JSON report once, then ANSWER packets. From
the front: BATCH packets. The end of the socket ends the process, and so does the death of the front.
"""

import argparse
import ctypes
import json
import logging
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

from slipway_inference.domain import BundleRefused, Signature
from slipway_inference.engine.region import Region
from slipway_inference.engine.warmup import Engine, check_golden, measure_costs

BATCH = struct.Struct("<QI")  # sequence number, rows
ANSWER = struct.Struct("<QQ?")  # sequence number, compute ns, whether it worked
_PR_SET_PDEATHSIG = 1

log = logging.getLogger(__name__)


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when the front dies, and look whether it has already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def _engine(kind: str, folder: Path, signature: Signature, threads: int) -> Engine:
    if kind == "torch":
        from slipway_inference.engine.torch_engine import TorchEngine

        return TorchEngine(folder, signature, threads)
    from slipway_inference.engine.onnx_engine import OnnxEngine

    return OnnxEngine(folder, signature, threads)


def _warm_up(engine: Engine, folder: Path, signature: Signature, region: Region) -> dict[str, Any]:
    difference = check_golden(engine, folder, signature)
    inputs, _ = region.arrays()
    costs = measure_costs(engine, inputs, signature.max_rows)
    return {"ok": True, "golden_max_abs_diff": difference, "costs_ms": costs}


def _answer_batches(engine: Engine, region: Region, link: socket.socket) -> None:
    inputs, outputs = region.arrays()
    while packet := link.recv(BATCH.size):
        sequence, rows = BATCH.unpack(packet)
        begin = time.perf_counter_ns()
        try:
            results = engine.run({name: array[:rows] for name, array in inputs.items()})
            for target, result in zip(outputs.values(), results, strict=True):
                if result.shape != (rows, *target.shape[1:]):  # numpy would spread one row over all
                    raise ValueError(f"the engine gave {result.shape} for {rows} rows")
                target[:rows] = result
            worked = True
        except Exception:
            log.exception("a batch of %d rows failed", rows)
            worked = False
        link.send(ANSWER.pack(sequence, time.perf_counter_ns() - begin, worked))


def main() -> None:
    """Load, warm up, report, then answer batches until the front closes the socket."""
    parser = argparse.ArgumentParser()
    for name in ("link", "memory", "parent", "threads", "max-rows"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the front drains first
    _die_with(arguments.parent)
    link = socket.socket(fileno=arguments.link)
    try:
        document = json.loads((arguments.folder / "signature.json").read_bytes())
        signature = Signature.from_json(document).limited(arguments.max_rows)
        region = Region(signature, arguments.memory)
        engine = _engine(arguments.engine, arguments.folder, signature, arguments.threads)
        report = _warm_up(engine, arguments.folder, signature, region)
    except (BundleRefused, OSError, ValueError) as error:
        link.send(json.dumps({"ok": False, "reason": str(error)[:2000]}).encode())
        return
    link.send(json.dumps(report).encode())
    _answer_batches(engine, region, link)


if __name__ == "__main__":
    main()
