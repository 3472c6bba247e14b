"""A gate's result in the forms that people and pipelines read."""
