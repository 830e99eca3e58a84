"""Makes snapshots and dies at the n-th point: before or after a call to ingestion or a transaction.

Each line on standard input is `point fence`; a forked process makes one sweep and dies there by SIGKILL. The
answer is `killed`, or `ended n` with the number of points that it passed.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from mortality import Clock, MortalDatabase, obey
from slipway_labeling.clients import Ingestion
from slipway_labeling.usecases.errands import Errands
from slipway_runtime.identity import ServiceToken
from slipway_runtime.rpc import Channels

CALLS = ("head", "rows", "upload", "commit")


class MortalIngestion:
    """Ingestion with a point before and after each call; without fence, commits carry no request_id."""

    def __init__(self, ingestion: Ingestion, clock: Clock, fence: bool) -> None:
        self._ingestion = ingestion
        self._clock = clock
        self._fence = fence

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._ingestion, name)

        def mortal(*args: Any, **kwargs: Any) -> Any:
            self._clock.tick()
            if name == "commit" and not self._fence:
                args = (*args[:4], "")
            answer = call(*args, **kwargs)
            self._clock.tick()
            return answer

        return mortal


def errands(
    database_url: str, address: str, token_file: str, clock: Clock, fence: bool, lease_s: float
) -> Errands:
    """Return the use case over mortal parts."""
    database = MortalDatabase(database_url, pool_size=2)
    database.clock = clock
    channels = Channels(ServiceToken(token_file))
    ingestion: Any = MortalIngestion(Ingestion(channels, address), clock, fence)
    return Errands(database=database, ingestion=ingestion, lease_s=lease_s, retry_s=0.1)


def main() -> None:
    """Obey orders until standard input ends."""
    database_url, address, token_file = sys.argv[1:]

    def one(line: str, clock: Clock) -> None:
        point, fence = line.split()
        clock.start(int(point))
        errands(database_url, address, token_file, clock, fence == "fence", lease_s=0.3).sweep()

    obey(one)


if __name__ == "__main__":
    main()
