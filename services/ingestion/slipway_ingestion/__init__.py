"""Ingestion: data sets, their commits, branches and blobs."""
