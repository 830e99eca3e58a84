"""Monitoring: spans, traces, and the edges between services."""
