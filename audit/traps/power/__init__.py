"""What a design of traps can see, and how large it must be: computed (`model`, `needed`) or simulated (`simulated`)."""
