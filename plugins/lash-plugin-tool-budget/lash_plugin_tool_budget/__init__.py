"""A budget for what a model sees of a tool's result."""
