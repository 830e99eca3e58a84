"""Rows of ingestion in and out; returns domain objects."""

from slipway_ingestion.store.erasures import Doomed, ErasureStore
from slipway_ingestion.store.predictions import PredictionStore
from slipway_ingestion.store.records import Store, StoredBlob
from slipway_ingestion.store.removal import RemovalStore

__all__ = ["Doomed", "ErasureStore", "PredictionStore", "RemovalStore", "Store", "StoredBlob"]
