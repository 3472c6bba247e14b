"""Measures a guard: what it recognises, whom it stops by mistake, and whether the model answers as if it forgot."""
