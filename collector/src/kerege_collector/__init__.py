"""Kerege's collector: takes in what the agents measured, keeps it, judges it, and tells people."""
