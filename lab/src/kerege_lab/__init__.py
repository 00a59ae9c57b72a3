"""Kerege's lab: real servers, emulated links and simulated centers, for tests, demos and benchmarks."""
