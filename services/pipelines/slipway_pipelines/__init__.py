"""Pipelines: see README.md."""
