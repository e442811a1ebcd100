"""Observational memory: notes take the place of what was said long ago."""
