"""The verbs of monitoring; one transaction each."""
