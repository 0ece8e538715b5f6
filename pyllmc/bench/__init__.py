"""Benchmarks: the real programs, timed on this machine."""
