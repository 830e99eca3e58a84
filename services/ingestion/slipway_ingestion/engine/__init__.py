"""Inspecting bytes, packing blobs, and the ranges that commits are made of."""
