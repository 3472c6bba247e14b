"""The ledger: everything that was fixed before publication, the commitment to it, and its disclosure."""
