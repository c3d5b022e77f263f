"""Measures sigma's error for each pass over W, and the norms of the GAN's kernels.

    python -m benchmarks.accuracy [--quick] [--out DIR]

Device: a CPU with 2 cores. Time: 11 to 25 minutes; with --quick about one. Without
torch or keras their rows are left out, and a line says so.
"""

import argparse
from pathlib import Path

from benchmarks.accuracy.measure import run


def main() -> None:
    """Reads the command line and measures."""
    add = (parser := argparse.ArgumentParser(description=__doc__)).add_argument
    add("--quick", action="store_true", help="smaller kernels, about a minute")
    add("--out", type=Path, help="a folder for JSON, tables and figures")
    options = parser.parse_args()
    results = run(options.quick, options.out)
    print(*(f"{k}: {v}" for k, v in results["versions"].items()), sep="\n")
    print(f"seconds: {results['seconds']:.0f}")


if __name__ == "__main__":
    main()
