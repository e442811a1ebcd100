"""Conformance kits, ready to be run by other packages' own tests: for stores, model providers and effect hosts."""
