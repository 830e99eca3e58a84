"""Celery with the rule "row first, task second, sweeper third" (DESIGN, section 6).

A task carries ids only. It is sent after the commit and may be lost or come twice: the row's lease
decides. Acknowledged early, because with the lease a late acknowledgement adds only duplicates.
"""

import logging
import os
import threading
import time
from collections.abc import Callable

from celery import Celery, signals
from opentelemetry import propagate, trace

from slipway_runtime import telemetry
from slipway_runtime.db import Database, leader

log = logging.getLogger(__name__)

_ALONE = ("--without-gossip", "--without-mingle", "--without-heartbeat")
_BEAT_S = 10.0
_DEAF_AFTER_S = 90.0
# A call waits for what it sends, so a broker that is away or silent costs it one try of this length, and the
# sweeper sends again. A worker has nothing better to do than to wait for its broker.
_SENDER_WAITS_S = 0.2
_SENDING = {
    "max_retries": 0,
    "connect_retries_timeout": _SENDER_WAITS_S,
    "socket_timeout": _SENDER_WAITS_S,
    "socket_connect_timeout": _SENDER_WAITS_S,
    "retry_on_timeout": False,
}


class Queue:
    """One service's queue; private to it (ADR-0001).

    Args:
        service: Prefix of every task name, and the name of the queue.
        broker_url: redis:// URL.
    """

    def __init__(self, service: str, broker_url: str) -> None:
        self.service = service
        self._sender = Celery(service, broker=broker_url, set_as_current=False)
        self._sender.conf.update(
            task_serializer="json",
            task_ignore_result=True,
            task_default_queue=service,
            broker_transport_options=_SENDING,
        )
        self.app = Celery(service, broker=broker_url)
        self.app.conf.update(
            task_serializer="json",
            accept_content=["json"],
            task_ignore_result=True,
            task_acks_late=False,
            task_default_queue=service,
            worker_prefetch_multiplier=1,
            worker_hijack_root_logger=False,
            worker_cancel_long_running_tasks_on_connection_loss=False,
            broker_connection_retry_on_startup=True,
            broker_transport_options={
                "visibility_timeout": 3600,
                "unacked_restore_interval": 2,
                "unacked_restore_throttle": 1,
                "socket_timeout": 10,
                "socket_connect_timeout": 5,
                "retry_on_timeout": True,
            },
        )

    def enqueue(self, name: str, id: str, traceparent: str = "") -> None:
        """Send task `{service}.{name}` with one id; failing to is no error, the sweeper sends again.

        It waits half a second at most, whatever the broker does.

        Args:
            name: Task name without the service.
            id: Of the row that says what to do.
            traceparent: W3C context to go on from; the current one when empty.
        """
        carrier: dict[str, str] = {"traceparent": traceparent} if traceparent else {}
        if not carrier:
            propagate.inject(carrier)
        context = propagate.extract(carrier)
        full = f"{self.service}.{name}"
        with telemetry.tracer.start_as_current_span(
            f"send {full}", context=context, kind=trace.SpanKind.PRODUCER
        ) as span:
            span.set_attributes({"messaging.system": "celery", "messaging.destination.name": self.service})
            headers: dict[str, str] = {}
            propagate.inject(headers)
            try:
                self._sender.send_task(full, args=[id], headers={"otel": headers}, retry=False)
            except Exception as error:
                span.record_exception(error)
                log.warning("task %s(%s) was not sent (%s); the sweeper will send it", full, id, error)

    def register(self, name: str, work: Callable[[str], None]) -> None:
        """Make `work(id)` what happens on task `{service}.{name}`."""
        full = f"{self.service}.{name}"

        def run(task: object, id: str) -> None:
            carrier = getattr(getattr(task, "request", None), "otel", None) or {}
            context = propagate.extract(carrier)
            with telemetry.tracer.start_as_current_span(
                f"process {full}", context=context, kind=trace.SpanKind.CONSUMER
            ) as span:
                span.set_attributes(
                    {"messaging.system": "celery", "messaging.destination.name": self.service}
                )
                work(id)

        self.app.task(run, name=full, bind=True)

    def work(self, threads: int, on_stop: Callable[[], None] = lambda: None) -> None:
        """Consume until SIGTERM, on threads: channels and pools do not survive a fork.

        Args:
            threads: Tasks at a time.
            on_stop: Called when the stop begins, so that long tasks can end themselves.
        """
        signals.worker_shutting_down.connect(lambda **_: on_stop(), weak=False)
        signals.setup_logging.connect(lambda **_: None, weak=False)
        Pulse(self, threads).start()
        self.app.worker_main(
            ["worker", "-P", "threads", "-c", str(threads), "-Q", self.service, "-l", "WARNING", *_ALONE]
        )


class Pulse:
    """Proves that the worker consumes, and ends the process when it has gone deaf.

    A Celery worker may stop consuming when its broker was killed (measured). A beat is sent through the
    queue itself; when none arrives for a while though a thread is free, the supervisor must restart us.
    """

    def __init__(self, queue: Queue, threads: int) -> None:
        self._queue = queue
        self._threads = threads
        self._busy = 0
        self._lock = threading.Lock()
        self._heard_at = time.monotonic()
        self._name = f"beat.{os.getpid()}"

    def start(self) -> None:
        """Begin to send and to listen."""
        signals.task_prerun.connect(self._began, weak=False)
        signals.task_postrun.connect(self._ended, weak=False)
        self._queue.register(self._name, lambda _: None)
        threading.Thread(target=self._loop, name="pulse", daemon=True).start()

    def _began(self, **_: object) -> None:
        with self._lock:
            self._busy += 1
            self._heard_at = time.monotonic()

    def _ended(self, **_: object) -> None:
        with self._lock:
            self._busy -= 1
            self._heard_at = time.monotonic()

    def _loop(self) -> None:
        while True:
            time.sleep(_BEAT_S)
            with self._lock:
                full = self._busy >= self._threads
                silent_s = time.monotonic() - self._heard_at
            if not full and silent_s > _DEAF_AFTER_S:
                log.error("no task was consumed for %.0f s; ending, to be restarted", silent_s)
                os._exit(75)
            if not full:
                self._send()

    def _send(self) -> None:
        try:
            name = f"{self._queue.service}.{self._name}"
            self._queue.app.send_task(name, args=["-"], retry=False, expires=_BEAT_S * 2)
        except Exception as error:
            log.warning("the queue cannot be reached (%s)", error)


class Sweeper:
    """Calls `sweep` every so often in one process of all: the leader by advisory lock.

    Args:
        database: Whose lock decides.
        name: Of the lock.
        interval_s: Seconds between two sweeps.
        sweep: What to do; its errors are logged and the next sweep comes all the same.
    """

    def __init__(self, database: Database, name: str, interval_s: float, sweep: Callable[[], None]) -> None:
        self._database = database
        self._name = name
        self._interval_s = interval_s
        self._sweep = sweep
        self._stopped = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"sweeper-{name}", daemon=True)

    def start(self) -> None:
        """Begin in a thread."""
        self._thread.start()

    def wake(self) -> None:
        """Sweep now, if this process leads; where another does, its interval decides."""
        self._woken.set()

    def stop(self) -> None:
        """End after the sweep in hand."""
        self._stopped.set()
        self._woken.set()
        self._thread.join(timeout=10)

    def _loop(self) -> None:
        while True:
            self._woken.wait(self._interval_s)
            self._woken.clear()
            if self._stopped.is_set():
                return
            try:
                with leader(self._database, self._name) as leads:
                    if leads:
                        self._sweep()
            except Exception:
                log.exception("sweep %s failed; the next one comes in %.0f s", self._name, self._interval_s)
