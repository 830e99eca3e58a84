"""Training jobs: see README.md."""
