"""Benchmarks: what things cost, measured on real parts. Each prints its figures, and judges them where there is a bar."""
