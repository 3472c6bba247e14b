"""The only door to a model: load it, read its log-probabilities, sample from it, watch or patch its modules."""
