"""Membership inference: scores of a text that tell whether a model is likely to have been trained on it.

A score is no evidence by itself. `audit.traps` makes evidence of it, by comparing texts that were planted at random
with texts of the same draw that were not. Which score is whose is written in ``docs/methods/traps.md``.
"""
