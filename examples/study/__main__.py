"""Compares every way to constrain a critic, on the same GAN.

    python -m examples.study [COMMAND] --dataset mnist --data-dir FOLDER [--quick]

Device and time: 2 cores of a CPU, about 80 minutes; with --quick under 10. Result:
figures, tables and one record for each run, in runs/study-mnist; docs/study has those
of the full run. Killed at any moment, the same command goes on.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from examples.gan.errors import UserError
from examples.study import options as asked
from examples.study.about import about
from examples.study.figures import draw
from examples.study.methods import OTHERS
from examples.study.pages import fill_page, verdicts, write_tables
from examples.study.plan import plan
from examples.study.study import Study, load_material
from examples.study.times_file import has_times, write_times
from examples.study.timing import measure
from examples.study.workers import make_runs, missing


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    try:
        _run(vars(asked.parser().parse_args(arguments)))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def _run(options: dict[str, Any]) -> None:
    """Does the command, or all of them."""
    command, size = options["command"], asked.size_of(options)
    folder = asked.folder_of(options)
    study = Study(
        folder,
        options["dataset"],
        options["data_dir"],
        size.steps,
        asked.QUICK_EPOCHS if options["quick"] else asked.EPOCHS,
    )
    if command in ("all", "runs"):
        _make_runs(study, options)
    if command == "time" or (command == "all" and not has_times(folder)):
        _measure(study, options)
    if command in ("all", "figures"):
        only = options["only"] if command == "figures" else None
        print("Drawn:", *draw(folder, only), sep="\n  ")
    if command in ("all", "tables"):
        _write_tables(folder, options)


def _make_runs(study: Study, options: dict[str, Any]) -> None:
    """Makes the runs that are missing; trains the judge before the first of them."""
    jobs = plan(asked.networks_of(options), asked.size_of(options), options["only"])
    left = missing(study, jobs)
    print(
        f"{study.folder}: {study.dataset}, {len(jobs)} runs of {study.steps:,} "
        f"updates, {len(jobs) - len(left)} of them there, on {about()['device']}"
    )
    if left:
        print("The judge, the classifier that the distance is taken with ...")
        judge = load_material(study).judge
        print(f"... is right on {judge.accuracy:.2%} of {judge.n_test:,} unseen images")
    make_runs(study, left, asked.processes_of(options, len(left)))


def _measure(study: Study, options: dict[str, Any]) -> None:
    """Measures the times and writes them."""
    network = asked.networks_of(options)[0]
    rounds = asked.QUICK_ROUNDS if options["quick"] else asked.ROUNDS
    print(f"The time of an update, {network} ...")
    size = asked.size_of(options)
    methods = (*size.methods, *(OTHERS if size.other_seeds else ()))
    times = measure(study, network, methods, options["rounds"] or rounds)
    write_times(study.folder, times)


def _write_tables(folder: Path, options: dict[str, Any]) -> None:
    """Writes and prints the tables; fills a page in."""
    paths = write_tables(folder)
    Console().print(Markdown(paths[0].read_text()))
    print(*verdicts(folder), *paths, sep="\n")
    if options["page"] is not None:
        fill_page(Path(options["page"]), folder)
        print(options["page"])


if __name__ == "__main__":
    sys.exit(main())
