"""Faults by name, each put into a copy of the package and hunted by the tests.

`python -m tests.mutations` runs all of them: it is part of the slow leg. Each room of
the package has a table, `table` has them all, and `test_mutations` checks that they
still fit the code.

Mutations are written by hand. A library that makes them (mutmut, cosmic-ray) changes
each operator of each line: thousands of runs, of which most say nothing, and no place
for a reason. It also starts or hooks each run in its own way, where here one process
that has imported jax and flax is forked.
"""
