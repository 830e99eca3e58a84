"""What the cluster must hold for an endpoint, and the patches that bring it there."""
