#!/opt/venv/bin/python
"""Entry point of every image: runs the service's main module, which the image names."""

import os
import runpy

runpy.run_module(f"{os.environ['SLIPWAY_PACKAGE']}.main", run_name="__main__", alter_sys=True)
