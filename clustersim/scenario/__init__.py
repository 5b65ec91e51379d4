"""A scenario: an immutable value that says everything about a run, read from YAML and checked before it starts."""
