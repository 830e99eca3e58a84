"""The gRPC edge of monitoring: to domain, call the use case, to proto."""
