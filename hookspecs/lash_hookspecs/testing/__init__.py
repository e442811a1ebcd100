"""Conformance kits, ready to be run by other packages' own tests: for stores and for model providers."""
