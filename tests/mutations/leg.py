"""The runs of the leg: controls first, then mutations, a few at a time; what is kept.

A mutation counts as killed if a test fails with it and the same tests pass without it.
So each file of tests has a control: all its tests that are to kill anything are run on
the tree as it is. Controls also fill the cache of compiled programs: most programs of
a mutated tree are those of the tree.
"""

import importlib.metadata
import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.mutations import child
from tests.mutations.mutation import ROOT, Mutation
from tests.mutations.trees import copy_tree, digest, tracked_files

FORMS = ("fast", "exhaustive")
# What a file of tests is collected from, beside itself.
_SHARED = (
    "pyproject.toml",
    "tests/conftest.py",
    "tests/cases.py",
    "tests/reference.py",
)
# The default of pytest leaves these out, too.
_EXHAUSTIVE = ("-m", "exhaustive and not gpu and not soak and not bench")


# Of these a file of outcomes is believed; what else has been may be the machine's.
_ANSWERS = ("PASSED", "FAILED", "NONE")


class Job(NamedTuple):
    """One run of pytest.

    Attributes:
        name: of the mutation, or of the file of a control; and the form.
        key: of the files and words that the outcome depends on.
        arguments: of pytest.
        mutation: None for a control.
    """

    name: str
    key: str
    arguments: tuple[str, ...]
    mutation: Mutation | None


def control_jobs(
    table: Sequence[Mutation], files: Iterable[str], form: str
) -> list[Job]:
    """Returns a control for each file: all tests in it that are to kill a mutation."""
    killers = [killer for mutation in table for killer in mutation.killers]
    jobs = []
    for file in dict.fromkeys(files):
        own = tuple(k for k in dict.fromkeys(killers) if k.split("::")[0] == file)
        arguments = own if file not in own else (file,)
        jobs.append(_job(f"control {file}", [file], arguments, form, None))
    return jobs


def mutation_jobs(mutations: Iterable[Mutation], form: str) -> list[Job]:
    """Returns a run of the killers for each mutation."""
    return [_job(m.name, m.files, m.killers, form, m) for m in mutations]


def _job(
    name: str,
    files: Sequence[str],
    arguments: tuple[str, ...],
    form: str,
    mutation: Mutation | None,
) -> Job:
    if form == "exhaustive":
        arguments = (*_EXHAUSTIVE, *files)
    package = [path for path in tracked_files() if path.startswith("specjax/")]
    shared = [path for path in _SHARED if (ROOT / path).exists()]
    versions = [sys.version, *map(importlib.metadata.version, ("jax", "flax", "optax"))]
    words = arguments, mutation and mutation[1:4], versions
    key = digest([*package, *shared, *files], words)
    return Job(f"{name} ({form})", key, arguments, mutation)


class Leg:
    """Runs jobs, each in a copy of the tree, and keeps what came of them in a file."""

    def __init__(
        self, work: Path, out: Path | None, n_jobs: int, limit_s: float, cache: bool
    ) -> None:
        """Makes the copies of the tree and reads what the file holds."""
        child.load_libraries()
        self.work, self.out, self.limit_s, self.cache = work, out, limit_s, cache
        self.kept: dict[str, dict] = {}
        if out is not None and out.exists():
            self.kept = json.loads(out.read_text())
        self.free = list(range(n_jobs))
        for slot in self.free:
            copy_tree(self._tree(slot))

    def outcomes(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, child.Outcome]]:
        """Runs the jobs, as many at once as there are copies, and yields what came.

        What the file holds for the same key is not run again.
        """
        waiting, running = [], {}
        for job in jobs:
            kept = self.kept.get(job.name)
            answered = kept is not None and kept["outcome"]["status"] in _ANSWERS
            if answered and kept["key"] == job.key:
                yield job, child.Outcome(**kept["outcome"])
            else:
                waiting.append(job)
        try:
            while waiting or running:
                while waiting and self.free:
                    job, slot = waiting.pop(0), self.free.pop()
                    running[slot] = job, self._start(job, slot)
                time.sleep(0.05)
                for slot, (job, run) in list(running.items()):
                    outcome = child.finished(run, self.limit_s)
                    if outcome is not None:
                        del running[slot]
                        self._restore(job, slot)
                        self.free.append(slot)
                        self._keep(job, outcome)
                        yield job, outcome
        finally:
            for _, run in running.values():
                child.end(run)

    def share_caches(self) -> None:
        """Gives each copy the compiled programs of all.

        They have one folder each: while one child writes a file, another may read it.
        """
        folders = [self._cache(slot) for slot in self.free]
        for source in folders:
            for target in folders:
                if source != target and source.exists():
                    shutil.copytree(source, target, dirs_exist_ok=True)

    def output_of(self, job: Job) -> str:
        """Returns where the output of a job's run is."""
        return str(self.work / "runs" / job.name.replace("/", "-") / "output.txt")

    def _start(self, job: Job, slot: int) -> child.Run:
        tree, mutation = self._tree(slot), job.mutation
        if mutation is not None:
            mutated = mutation.applied((ROOT / mutation.file).read_text())
            (tree / mutation.file).write_text(mutated)
        folder = Path(self.output_of(job)).parent
        cache = self._cache(slot) if self.cache else None
        return child.start(tree, folder, cache, list(job.arguments))

    def _restore(self, job: Job, slot: int) -> None:
        if job.mutation is not None:
            file = job.mutation.file
            shutil.copyfile(ROOT / file, self._tree(slot) / file)

    def _keep(self, job: Job, outcome: child.Outcome) -> None:
        self.kept[job.name] = {"key": job.key, "outcome": outcome._asdict()}
        if self.out is not None:
            self.out.write_text(json.dumps(self.kept, indent=1) + "\n")

    def _tree(self, slot: int) -> Path:
        return self.work / f"tree-{slot}"

    def _cache(self, slot: int) -> Path:
        return self.work / f"cache-{slot}"
