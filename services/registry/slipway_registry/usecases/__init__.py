"""The verbs of the registry; one transaction each."""
