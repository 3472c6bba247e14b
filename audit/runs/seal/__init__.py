"""The seal of a run: every file's hash, chained to the plan that was fixed before scoring; proofs and exports."""
