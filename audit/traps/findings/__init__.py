"""What the trap audit says, in words and tables."""
