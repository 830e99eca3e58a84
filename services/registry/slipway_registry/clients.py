"""Ingestion as the registry needs it: domain in, domain out, the deadline inside."""

from slipway.ingestion.v1 import ingestion_pb2 as ing
from slipway.ingestion.v1 import ingestion_pb2_grpc as ing_grpc
from slipway_runtime.rpc import Channels, our_errors

CALL_S = 10.0
PAGE = 1000


class Ingestion:
    """Reads what was erased.

    Args:
        channels: Of this process.
        address: Of ingestion.
    """

    def __init__(self, channels: Channels, address: str) -> None:
        service = ing.DESCRIPTOR.services_by_name["IngestionService"]
        self._stub = ing_grpc.IngestionServiceStub(channels.to(address, service, timeout_s=CALL_S))

    def erasures(self, after: int) -> list[tuple[int, str]]:
        """Return number and name of erasures that ended, past a number, by number; a thousand at most."""
        request = ing.ListErasuresRequest(parent="datasets/-", after_number=after, page_size=PAGE)
        with our_errors():
            return [(one.number, one.name) for one in self._stub.ListErasures(request).erasures]

    def commits(self, erasure: str) -> list[str]:
        """Return the commits that were made with what an erasure removed."""
        names: list[str] = []
        token = ""
        while True:
            request = ing.ListChildrenRequest(name=erasure, page_size=PAGE, page_token=token)
            with our_errors():
                page = self._stub.ListChildren(request)
            names += page.names
            token = page.next_page_token
            if not token:
                return names
