"""Embedding-corrupted prompts (arXiv:2406.07933): a guard in front of a model whose weights stay as they are."""
