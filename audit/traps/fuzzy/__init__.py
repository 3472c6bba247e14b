"""Near copies of traps, and what they are worth in exact copies."""
