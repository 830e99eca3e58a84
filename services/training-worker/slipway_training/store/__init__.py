"""The tables and what stands in them, as domain objects. Leases run on the database's clock."""

from slipway_training.store.scoring import ScoringStore
from slipway_training.store.training import Store

__all__ = ["ScoringStore", "Store"]
