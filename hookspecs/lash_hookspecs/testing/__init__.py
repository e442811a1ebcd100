"""Conformance kits: what a store, a provider or an effect host must do, ready to be run by its own tests."""
