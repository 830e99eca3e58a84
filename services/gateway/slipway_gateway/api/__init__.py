"""The REST door: one FastAPI application over the use cases and clients."""
