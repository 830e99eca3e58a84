"""The gRPC edge of labeling: to domain, call the use case, to proto."""
