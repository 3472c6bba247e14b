"""Plant traps in documents and files, and take them out again."""
