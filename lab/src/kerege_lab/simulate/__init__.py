"""A scripted world of libraries whose every second is known, in front of the real collector."""
