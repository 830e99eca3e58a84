"""What the benchmarks share: passes, processes, and the things beside which they measure."""
