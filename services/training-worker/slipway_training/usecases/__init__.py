"""The verbs: jobs for callers, attempts for workers."""
