"""Measure what a language model carries of its training data; never changes the model under audit."""

__version__ = "0.1.0"
