"""Slipway's platform on one machine."""
