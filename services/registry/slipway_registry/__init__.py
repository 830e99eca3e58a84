"""The registry: what was trained, and what came of it."""
