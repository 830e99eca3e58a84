"""The tables and what stands in them, as domain objects. Leases run on the database's clock."""

from slipway_pipelines.store.definitions import Definitions
from slipway_pipelines.store.runs import Runs
from slipway_pipelines.store.steps import Steps

__all__ = ["Definitions", "Runs", "Steps"]
