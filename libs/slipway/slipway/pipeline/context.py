"""What a step may know of its run, and how it talks to the platform."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipway.client import Client


@dataclass(frozen=True, kw_only=True)
class Context:
    """One attempt at a step; a function that names a parameter `context` gets it.

    Attributes:
        run: `pipelines/{pipeline}/runs/{run}`.
        step: Name of the step.
        index: Number of the item of a fan-out; -1 for none.
        attempt: 1, 2, …
        request_id: The same in every attempt at this step of this run: hand it to what the step creates, and
            a step that is tried again makes one thing and not two.
        parameters: Of the run.
        trigger: `MANUAL`, `SCHEDULE`, `ALERT` or `BACKFILL`.
        trigger_source: Name of what started the run; empty for nothing.
        schedule_time: The time of the schedule that the run is for.
        connect: Makes the client.
    """

    run: str
    step: str
    index: int
    attempt: int
    request_id: str
    parameters: dict[str, Any]
    trigger: str = "MANUAL"
    trigger_source: str = ""
    schedule_time: datetime | None = None
    connect: "Callable[[], Client] | None" = field(default=None, repr=False)

    @cached_property
    def client(self) -> "Client":
        """The platform, spoken to as the service `pipelines`; opened when it is first used."""
        if self.connect is not None:
            return self.connect()
        from slipway.client import Client

        return Client()

    def request_id_for(self, effect: str) -> str:
        """Return an id for one of several effects of the step, the same in every attempt."""
        return f"{self.request_id}.{effect}"
