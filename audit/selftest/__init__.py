"""Known answers: each instrument on models and numbers whose truth is known, before anybody believes it.

Every check states an interval and the reason for it, fixed before the instrument was run: arithmetic where there is a
closed form (then the interval is rounding), else the distribution of the statistic with an upper bound of the chance
that a right instrument falls outside (``luck``). All seeds are fixed, so a check that passes once passes always with
the same code and versions; `docs/methods/selftest.md` lists what is checked and which mistakes are caught.
"""
