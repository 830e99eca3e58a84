"""What an attempt does: archives, the training process, its loop and checkpoints."""
