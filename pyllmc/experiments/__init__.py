"""Experiments: a folder with a matrix file, its cells, and the runner that makes them."""
