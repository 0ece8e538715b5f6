"""Text to token files: sources, tokenizers and the files that the trainer reads."""
