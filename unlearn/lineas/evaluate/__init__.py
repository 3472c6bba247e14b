"""What steering does and what it costs: attribute rate, perplexity, and the two together."""
