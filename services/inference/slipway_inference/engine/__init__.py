"""What turns tensors into tensors: batcher, slots, and the engines in their child processes."""
