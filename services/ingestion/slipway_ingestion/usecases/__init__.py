"""The verbs of ingestion."""
