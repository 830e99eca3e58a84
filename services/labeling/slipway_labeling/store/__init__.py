"""Rows of labeling in and out; a small store per noun, each over one connection."""
