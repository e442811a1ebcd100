"""A shell for models: commands that end, and commands that go on, none of which outlives its host."""
