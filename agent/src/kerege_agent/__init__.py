"""Kerege's agent: measures the Internet link of a library from a PC in it, and loses nothing."""
