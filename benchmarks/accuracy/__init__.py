"""Accuracy per cost: how near each library's sigma is, for how many passes over W.

`python -m benchmarks.accuracy` prints the tables and draws the figures.
"""

from benchmarks.accuracy.measure import run as run
