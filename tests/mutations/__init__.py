"""Faults by name, each put into a copy of the package and hunted by the tests.

`python -m tests.mutations` runs all of them: it is part of the slow leg. The tables
are `core`, `bounds`, `wrappers`, `constraints` and `tools`; `test_mutations` checks
that they still fit the code.
"""
