"""What a front does: answer requests, and deliver the events of its answers."""
