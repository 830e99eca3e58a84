"""Statistics of windows: sketches that merge, and the tests that compare them with a reference."""
