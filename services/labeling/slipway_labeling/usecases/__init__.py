"""The verbs of labeling; one transaction each."""
