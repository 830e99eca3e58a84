"""The verbs: of callers over definitions and runs, and of workers over steps."""
