"""Conformance kits, ready to be run by other packages' own tests. So far there is one: for stores."""
