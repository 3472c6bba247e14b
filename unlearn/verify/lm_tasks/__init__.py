"""Benchmark tasks of EleutherAI's evaluation harness over the user's own files, without a network."""
