"""Look for known traps and near copies in a corpus."""
