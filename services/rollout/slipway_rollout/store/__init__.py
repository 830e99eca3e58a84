"""The tables and what stands in them, as domain objects."""

from slipway_rollout.domain import Endpoint
from slipway_rollout.store.endpoints import EndpointRows
from slipway_rollout.store.rollouts import Account, RolloutRows
from slipway_rollout.store.servings import ServingRows


class Store(EndpointRows, RolloutRows, ServingRows):
    """Rollout's tables on one connection, within the caller's transaction."""

    def save(self, endpoint: Endpoint, *, actor: str = "rollout", reason: str = "") -> Endpoint:
        """Write an endpoint and its versions as they are, and return it as stored.

        Args:
            endpoint: As it shall stand.
            actor: Who changed weights, if they change: it is noted what served when.
            reason: Why.
        """
        saved = super().save(endpoint)
        self.note_servings(saved, actor=actor, reason=reason)
        return saved


__all__ = ["Account", "Store"]
