"""The playground behind its page: what can be loaded, a process that holds the model, and the line before it."""
