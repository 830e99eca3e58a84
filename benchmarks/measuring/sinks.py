"""What does nothing but say yes, in a process of its own."""

import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc


def serve(add: Callable[[grpc.Server], None]) -> None:
    """Serve what `add` adds on the port that the command line names, until told to stop."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})  # the threads inherit it
    server = grpc.server(ThreadPoolExecutor(1))
    add(server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop(0)
