"""Runs the mutations and says which survive: `python -m tests.mutations [NAME ...]`."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutations.child import Outcome
from tests.mutations.leg import Job, Leg, control_jobs, mutation_jobs
from tests.mutations.mutation import Mutation
from tests.mutations.table import TABLE
from tests.mutations.verdict import verdict_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the leg and returns its exit code: 1 for a survivor or a wrong flag."""
    options = _parser().parse_args(arguments)
    # Else what is terminated would leave its children running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    table = [*TABLE, *CHECKS]
    by_name = {mutation.name: mutation for mutation in table}
    unknown = [name for name in options.names if name not in by_name]
    if unknown:
        print(f"No mutation is called {', '.join(unknown)}.", file=sys.stderr)
        return 2
    chosen = [by_name[name] for name in options.names] or list(TABLE)
    with tempfile.TemporaryDirectory(prefix="mutations-") as temporary:
        work = Path(options.work or temporary)
        leg = Leg(work, options.out, options.jobs, options.limit, not options.no_cache)
        return _Runs(leg, table, chosen).judge(exhaustive=options.exhaustive)


# Not of the table: by these the runner itself is tested.
CHECKS = (
    Mutation(
        name="check-killed",
        file="specjax/_tree.py",
        old='return "/".join(path)',
        new='return ".".join(path)',
        killers=("tests/test_kernels.py::test_a_mapping_may_end_in_a_rule",),
    ),
    Mutation(
        name="check-survives",
        file="specjax/_tree.py",
        old='"""Trees by name:',
        new='"""Trees by their names:',
        killers=("tests/test_kernels.py::test_a_mapping_may_end_in_a_rule",),
    ),
)


class _Runs:
    """What has been run of the leg, printed as it comes."""

    def __init__(
        self, leg: Leg, table: Sequence[Mutation], chosen: Sequence[Mutation]
    ) -> None:
        self.leg, self.table, self.chosen = leg, table, chosen
        self.cpu_s, self.started = 0.0, time.monotonic()

    def judge(self, *, exhaustive: bool) -> int:
        fast = self._form(self.chosen, "fast")
        slow: dict[str, Outcome] | None = {}
        if exhaustive and fast is not None:
            left = [m for m in self.chosen if fast[m.name].status in ("PASSED", "NONE")]
            slow = self._form([m for m in left if not m.equivalent], "exhaustive")
        if fast is None or slow is None:
            print("A test fails without a mutation, or is not there: nothing is said.")
            return 1
        verdicts = [
            verdict_of(m, fast[m.name], slow.get(m.name), exhaustive=exhaustive)
            for m in self.chosen
        ]
        words = [verdict.word for verdict in verdicts]
        counts = ", ".join(f"{words.count(w)} {w}" for w in dict.fromkeys(words))
        wall_s = time.monotonic() - self.started
        print(f"\n{len(words)} mutations: {counts}.")
        print(f"{self.cpu_s:.0f} CPU seconds in {wall_s:.0f} seconds.")
        problems = [verdict.problem for verdict in verdicts if verdict.problem]
        print("\n".join(problems))
        return 1 if problems else 0

    def _form(
        self, mutations: Sequence[Mutation], form: str
    ) -> dict[str, Outcome] | None:
        """Returns the outcome of each mutation, None if a control fails."""
        files = [file for mutation in mutations for file in mutation.files]
        controls = self._run(control_jobs(self.table, files, form))
        self.leg.share_caches()
        if any(outcome.status not in ("PASSED", "NONE") for outcome in controls):
            return None
        outcomes = self._run(mutation_jobs(mutations, form))
        return {m.name: one for m, one in zip(mutations, outcomes, strict=True)}

    def _run(self, jobs: list[Job]) -> list[Outcome]:
        found = {}
        for job, outcome in self.leg.outcomes(jobs):
            found[job.name] = outcome
            self.cpu_s += outcome.cpu_s
            line = f"{outcome.status:8}{outcome.cpu_s:7.1f} s  {job.name}  {outcome.by}"
            print(line, flush=True)
        return [found[job.name] for job in jobs]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations")
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="mutations (default: all)")
    add("--jobs", type=int, default=2, help="how many run at once (default: 2)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--fast",
        action="store_true",
        help="the tests that run by default, and no others (default)",
    )
    form.add_argument(
        "--exhaustive",
        action="store_true",
        help="survivors of the default tests meet those marked exhaustive, too",
    )
    add("--out", type=Path, metavar="FILE.json", help="keeps outcomes; goes on from it")
    add("--limit", type=float, default=400, help="seconds for one run (default: 400)")
    add("--work", metavar="FOLDER", help="for copies and outputs; it is kept")
    add("--no-cache", action="store_true", help="compile each program in each run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
