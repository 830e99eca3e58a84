"""Rows of the registry in and out; returns domain objects."""

from slipway_registry.store.erasures import ErasureRows
from slipway_registry.store.evaluations import EvaluationRows
from slipway_registry.store.gates import GateRows
from slipway_registry.store.records import Records


class Store(Records, EvaluationRows, GateRows, ErasureRows):
    """The registry's tables on one connection, within the caller's transaction."""


__all__ = ["Store"]
