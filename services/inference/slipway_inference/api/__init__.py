"""KServe v2 over grpc.aio."""
