"""Known answers of what changes models and says whether it worked; see `audit.selftest`."""
