"""Python's cycle collector, held back."""

import gc
import threading


class Uncollected:
    """Holds it back inside: records of a file have no cycles, and to walk them costs as much as they do."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            gc.disable()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                gc.enable()


UNCOLLECTED = Uncollected()
