"""Models on disk: initial weights and what a file holds."""
