"""Comparing finished runs: which settings must agree, what is compared, and how sure the differences are."""
