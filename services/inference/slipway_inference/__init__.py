"""Serves models: KServe v2 over gRPC, batching, one engine process per slot."""
