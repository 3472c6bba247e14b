"""Change what a model carries, then ask `audit` whether it worked."""
