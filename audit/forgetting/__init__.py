"""Measures what a model still carries of one text: familiarity, wording, fluency, and how much of a gap was closed."""
