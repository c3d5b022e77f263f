"""Makes the runs that have no whole record, in this process or in several."""

import itertools
import multiprocessing
import os
import queue
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

from tqdm import tqdm

from examples.gan.errors import UserError
from examples.study.plan import Job
from examples.study.records import whole_record
from examples.study.run import make_run
from examples.study.score import Scorer
from examples.study.study import Study, load_material
from examples.study.training import Tick

_DONE = "done"


def missing(study: Study, jobs: Sequence[Job]) -> list[Job]:
    """Returns the jobs that have no whole record.

    Raises:
        UserError: a record there is of a study with other options.
    """
    left = []
    for job in jobs:
        record = whole_record(study.folder, job.name)
        if record is None:
            left.append(job)
            continue
        for key, asked in (("dataset", study.dataset), ("steps", study.steps)):
            was = record["config"][key]
            if was != asked:
                raise UserError(
                    f"{study.folder} holds a run with --{key} {was}: expected another "
                    f"--out for --{key} {asked}, or the same --{key}."
                )
    return left


def make_runs(study: Study, jobs: Sequence[Job], processes: int) -> None:
    """Makes the runs, with a bar over the updates of all of them.

    Each record is written when its run is at its end: after an interruption the runs
    without one are made again, from their start.
    """
    total = len(jobs) * study.steps
    if not jobs:
        return
    with tqdm(total=total, unit="update", dynamic_ncols=True, disable=None) as bar:
        if processes == 1:
            _make(study, jobs, bar.update)
        else:
            _share_out(study, jobs, processes, bar.update)


def _make(study: Study, jobs: Iterable[Job], tick: Tick) -> None:
    """Makes the runs one after the other; a diverged one's updates count, too."""
    material = load_material(study)
    scorer = Scorer(material.judge, material.train, material.test)
    for job in jobs:
        made = [0]

        def count(n: int, made: list[int] = made) -> None:
            made[0] += n
            tick(n)

        make_run(study, job, material, scorer, count)
        tick(study.steps - made[0])


def _share_out(study: Study, jobs: Sequence[Job], processes: int, tick: Tick) -> None:
    """Lets processes take one program after the other, each on a core of its own."""
    context = multiprocessing.get_context("spawn")
    tasks, told = context.Queue(), context.Queue()
    groups = [list(group) for _, group in itertools.groupby(jobs, lambda j: j.program)]
    for group in [*groups, *[None] * processes]:
        tasks.put(group)
    workers = [
        context.Process(target=_work, args=(study, tasks, told, i), daemon=True)
        for i in range(processes)
    ]
    for worker in workers:
        worker.start()
    try:
        _listen(workers, told, tick)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _listen(workers: Sequence[Any], told: Any, tick: Tick) -> None:
    """Passes on what the processes tell, until all of them are done."""
    working = len(workers)
    while working:
        try:
            word = told.get(timeout=5)
        except queue.Empty:
            if any(worker.exitcode for worker in workers):
                raise UserError(
                    "A process of the study was killed: start it again, and it goes on "
                    "with the runs that have no record."
                ) from None
            continue
        if isinstance(word, int):
            tick(word)
        elif word == _DONE:
            working -= 1
        else:
            raise RuntimeError(word)


def _work(study: Study, tasks: Any, told: Any, index: int) -> None:
    """Makes the runs of one program after the other, on one core."""
    cores = sorted(os.sched_getaffinity(0))
    # Before jax's backend counts the threads that it is to have.
    os.sched_setaffinity(0, {cores[index % len(cores)]})
    parent = os.getppid()

    def tell(n: int) -> None:
        if os.getppid() != parent:  # killed: nobody else would end this process
            os._exit(1)
        told.put(n)

    try:
        _make(study, itertools.chain.from_iterable(iter(tasks.get, None)), tell)
        told.put(_DONE)
    except KeyboardInterrupt:
        pass
    except BaseException:
        told.put(traceback.format_exc())
