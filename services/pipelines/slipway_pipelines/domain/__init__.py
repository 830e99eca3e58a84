"""Definitions, runs, steps and schedules: what they are and what may become of them. No I/O."""
