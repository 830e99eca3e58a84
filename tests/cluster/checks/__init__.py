"""Checks of the cluster files without a cluster; each finding names the object and the field."""
