"""The peer: tritonserver with its Python backend, as the wheel `nvidia-pytriton` carries it.

The model is the same model.onnx in ONNX Runtime with one thread; dynamic batching takes all that is queued,
up to the same number of rows. Nothing else is tuned.
"""

import os
import shutil
import sysconfig
from pathlib import Path

from measuring.convnet import MAX_BATCH, MODEL, OUTPUTS, SIDE
from measuring.processes import ServerProcess, peers_folder

HOW = "python3.11 -m venv {0} && {0}/bin/pip install nvidia-pytriton==0.7.0 onnxruntime==1.32.0"

_CODE = """
import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = f"{args['model_repository']}/{args['model_version']}/model.onnx"
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]

    def execute(self, requests):
        images = [pb_utils.get_input_tensor_by_name(one, "image").as_numpy() for one in requests]
        results = self.session.run(self.names, {"image": np.concatenate(images)})
        replies, row = [], 0
        for image in images:
            parts = [
                pb_utils.Tensor(name, result[row : row + len(image)])
                for name, result in zip(self.names, results)
            ]
            replies.append(pb_utils.InferenceResponse(output_tensors=parts))
            row += len(image)
        return replies
"""


def _config() -> str:
    outputs = ", ".join(f'{{ name: "{n}" data_type: TYPE_FP32 dims: [{size}] }}' for n, size in OUTPUTS)
    return f"""
name: "{MODEL}"
backend: "python"
max_batch_size: {MAX_BATCH}
input [ {{ name: "image" data_type: TYPE_UINT8 dims: [{SIDE}, {SIDE}] }} ]
output [ {outputs} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
dynamic_batching {{ }}
"""


def installed() -> Path | None:
    """Return the virtual environment that has the peer, or None."""
    home = peers_folder() / "triton"
    return home if _packages(home) else None


def how_to_install() -> str:
    """Return the command that makes it."""
    return HOW.format(peers_folder() / "triton")


def _packages(home: Path) -> Path | None:
    return next(iter(home.glob("lib/python3.11/site-packages/pytriton/tritonserver")), None)


def start(home: Path, bundle: Path, folder: Path, port: int) -> ServerProcess:
    """Start it over a repository of the one model; gRPC alone is open."""
    server = _packages(home)
    assert server is not None
    version = folder / "repository" / MODEL / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(_CODE)
    (version.parent / "config.pbtxt").write_text(_config())
    shutil.copy(bundle / "model.onnx", version / "model.onnx")
    backend = folder / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    shutil.copy(server / "python_backend_stubs" / "3.11" / "triton_python_backend_stub", backend)
    command = [
        str(server / "bin" / "tritonserver"),
        f"--model-repository={folder / 'repository'}",
        f"--backend-directory={backend.parent}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={port}",
        "--allow-http=false",
        "--allow-metrics=false",
        "--log-info=false",
    ]
    libraries = (server.parents[1] / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR"))
    environment = {
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        # the stub's interpreter finds its packages through the python3 that comes first, not by PYTHONPATH
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
    }
    return ServerProcess(command, folder / "triton.log", environment)
