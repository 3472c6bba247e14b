"""Release gates: a written policy over the estimates of finished runs, and what follows from it."""
