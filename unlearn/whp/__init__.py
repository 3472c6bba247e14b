"""Who's Harry Potter? (arXiv:2310.02238): approximate unlearning with generic labels."""
