"""Runs the tests that are nearest to what has changed: `python -m tests.changed`.

The tests of a source file are those that kill its mutations (`tests/mutations`). It is
for the loop of edit and test; the whole suite is for the end.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from tests.mutations.table import TABLE

ROOT = Path(__file__).parents[1]
# Of what has no mutations: the tests of the first pattern that fits.
OTHERS = {
    "tests/mutations/*": ("tests/test_mutations.py",),
    "specjax/_*.py": ("tests/test_arrows.py", "tests/test_contract.py"),
    "specjax/*": ("tests/test_arrows.py",),
    "examples/study/*": ("tests/examples/test_study_records.py",),
    "examples/*": ("tests/examples/test_gan_train.py",),
    "*.md": ("tests/test_pages.py",),
}
# Of the contract only some kernels: a matrix, several sides, a stack.
NARROW = "not (test_contract and (boxed or nnx_state or experts or conv_))"


def tests_of(paths: Iterable[str]) -> list[str]:
    """Returns the test files to run after a change of these paths, each once."""
    found: dict[str, None] = {}
    for path in paths:
        if fnmatch(path, "tests/*test_*.py"):
            found[path] = None
            continue
        killers = [each for m in TABLE if m.file == path for each in m.killers]
        near = [killer.split("::")[0] for killer in killers]
        fits = (tests for pattern, tests in OTHERS.items() if fnmatch(path, pattern))
        found.update(dict.fromkeys(near or next(fits, ())))
    return list(found)


def changed(since: str) -> list[str]:
    """Returns the files that differ from a commit, new ones included."""
    listing = (
        ("git", "diff", "--name-only", "--diff-filter=d", since),
        ("git", "ls-files", "--others", "--exclude-standard"),
    )
    lines: list[str] = []
    for words in listing:
        done = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, check=True
        )
        lines += done.stdout.splitlines()
    return sorted(set(lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs pytest on them, and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.changed",
        description=__doc__,
        epilog="Other options are pytest's.",
    )
    parser.add_argument("--since", default="HEAD", help="a commit; HEAD by default")
    options, others = parser.parse_known_args(arguments)
    paths = changed(options.since)
    tests = tests_of(paths)
    without = [path for path in paths if not tests_of([path])]
    if without:
        print(f"No test is near {', '.join(without)}.", file=sys.stderr)
    if not tests:
        return 0
    words = ["-n", "2", "--dist", "loadfile", "--quiet", "-k", NARROW, *others]
    return subprocess.call([sys.executable, "-m", "pytest", *words, *tests], cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
