"""gRPC servers and channels with the project's conventions built in."""

from slipway_runtime.rpc.client import Channels, channel
from slipway_runtime.rpc.server import Server, serve_until_signal
from slipway_runtime.rpc.status import from_rpc_error, grpc_code, our_errors, to_status
from slipway_runtime.rpc.times import timestamp

__all__ = [
    "Channels",
    "Server",
    "channel",
    "from_rpc_error",
    "grpc_code",
    "our_errors",
    "serve_until_signal",
    "timestamp",
    "to_status",
]
