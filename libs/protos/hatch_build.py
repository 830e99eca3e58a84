"""Compiles proto/ into the wheel, so that no generated module is kept in git."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileProtos(BuildHookInterface):  # type: ignore[type-arg]
    """Runs protoc over every file below proto/ and puts what it writes into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile to a temporary folder and name each file to the builder.

        Raises:
            RuntimeError: protoc refused a file; its message is on standard error.
        """
        import google
        import grpc_tools
        from grpc_tools import protoc

        source = Path(self.root, "..", "..", "proto").resolve()
        self._out = tempfile.TemporaryDirectory()
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        googleapis = [str(Path(p).parent) for p in google.__path__]
        files = sorted(str(path.relative_to(source)) for path in source.rglob("*.proto"))
        includes = [f"-I{path}" for path in (source, well_known, *googleapis)]
        outputs = [f"--{kind}_out={self._out.name}" for kind in ("python", "pyi", "grpc_python")]
        # Comments are not in the modules: the gateway reads them off this set for its OpenAPI.
        described = Path(self._out.name, "slipway", "protos.binpb")
        described.parent.mkdir()
        outputs += [f"--descriptor_set_out={described}", "--include_source_info"]
        if protoc.main(["protoc", *includes, *outputs, *files]) != 0:
            print(f"protoc refused a file below {source}", file=sys.stderr)
            raise RuntimeError("protoc failed")
        for path in Path(self._out.name).rglob("*.py*"):
            build_data["force_include"][str(path)] = str(path.relative_to(self._out.name))
        build_data["force_include"][str(described)] = "slipway/protos.binpb"
        for folder in {Path(file).parent for file in files}:
            typed = Path(self._out.name, folder, "py.typed")
            typed.touch()
            build_data["force_include"][str(typed)] = str(folder / "py.typed")
        for path in source.rglob("*.proto"):
            build_data["force_include"][str(path)] = str(path.relative_to(source))
