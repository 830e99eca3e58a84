"""Reading bundles without running anything in them."""
