"""Trains an SN-GAN on scikit-learn's 1,797 handwritten digits.

    python -m examples.gan [--operator]

Device: a CPU with 2 cores. Time: about two minutes (some 180 s of CPU). Result: a
Frechet distance of 2 to 3.5, where the untrained generator has 1,270 to 1,320 and real
images among themselves 1.25; each of the ten digits is 7 % or more of 1,000 samples.
With --operator, whose critic is weaker, the distance is 4.7.
"""

import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from examples.gan import processes
from examples.gan.data import Dataset
from examples.gan.errors import Diverged, UserError
from examples.gan.loop import train
from examples.gan.options import parser
from examples.gan.pictures import draw_curves, draw_samples
from examples.gan.processes import is_first, say
from examples.gan.records import read_metrics, write_json
from examples.gan.report import files, kernel_rows, show
from examples.gan.score import sample, score
from examples.gan.settings import Config
from examples.gan.spectra import write_reports
from examples.gan.start import start
from examples.gan.state import TrainState


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    try:
        _run(vars(parser().parse_args(arguments)))
    except (UserError, Diverged) as error:
        return _end(str(error), 2 if isinstance(error, UserError) else 1)
    except KeyboardInterrupt as error:
        return _end(str(error) or "Interrupted.", 130)
    except Exception:
        if not processes.joined():
            raise
        # Most of the time what is raised here is that another process is gone.
        return _end(
            f"{traceback.format_exc()}Process {jax.process_index()} ends, and with it "
            "all others, after the error above: start all of them again, with "
            "--resume.",
            1,
        )
    return 0


def _end(words: str, code: int) -> int:
    """Says why the run ends; one of several processes does not wait for the others."""
    print(words, file=sys.stderr)
    if processes.joined():
        processes.leave(code)
    return code


def _run(options: dict[str, Any]) -> None:
    """Trains, draws and scores."""
    began = time.perf_counter()
    if options["distributed"] is not None:
        processes.join(options["distributed"])
    run = start(options)
    config, folder = run.config, run.folder
    say(
        f"{folder}: {config.dataset}, {len(run.data):,} images, "
        f"{config.flags.removeprefix('--')}, seed {config.seed}, "
        f"steps {int(run.state.step):,} to {config.steps:,}"
    )
    state = processes.whole(train(run))
    if is_first():
        print("Drawing and scoring ...")
        _finish(folder, config, run.data, state)
        seconds = time.perf_counter() - began
        print(f"\n{seconds:.0f} seconds. The files:\n{files(folder)}")


def _finish(folder: Path, config: Config, data: Dataset, state: TrainState) -> None:
    """Writes the pictures, the report and the score, and prints the tables."""
    real = data.images(slice(80 if config.conditional else 64))
    fake = sample(config, state.average, len(real))
    draw_samples(
        folder / "samples.png", real, fake, int(state.step), config.conditional
    )
    draw_curves(folder / "curves.png", read_metrics(folder), config)
    write_reports(folder, config, state)
    result, rows = score(config, state, data), kernel_rows(config, state)
    write_json(folder / "score.json", result | {"kernels": rows})
    show(config, rows, result)


if __name__ == "__main__":
    sys.exit(main())
