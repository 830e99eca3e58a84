"""Users, API tokens, path templates and tensors. No I/O."""
