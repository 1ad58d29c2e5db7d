"""What the benchmarks share, and the scripts that they run in processes of their own."""
