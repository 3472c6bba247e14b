"""Files as hosts of traps: one file for each format, which says where a copy may stand and how it is written there.

In every format but parquet a copy is put in by inserting bytes and taken out by cutting them, so that no other byte of
the file changes and the way back is exact by construction.
"""
