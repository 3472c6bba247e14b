"""Copyright traps: draw, assign at random, plant, and test whether a model was trained on them.

Paper: Meeus, Shilov, Faysse, de Montjoye 2024, arXiv:2402.09363. What is taken from it and what is not is
written in ``docs/methods/traps.md``.
"""
