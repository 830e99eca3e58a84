"""Reads definitions out of source, and runs attempts in processes of their own."""
