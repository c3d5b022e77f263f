"""The study as a program of its own, of small networks, that may kill itself.

    python study_program.py N [the study's options]

After N looks at the metrics it gets a real SIGKILL; 0: never.
"""

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from examples.gan import presets
from examples.study import __main__ as program
from examples.study import draw_samples, judge, run, score, training
from tests.examples.test_gan_readers import idx


def write_images(folder: Path) -> None:
    """300 training images of noise, in ten shades, and 200 test images."""
    for part, n, seed in (("train", 300, 0), ("t10k", 200, 1)):
        draw = np.random.default_rng(seed)
        labels = (np.arange(n) % 10).astype(np.uint8)
        shades = draw.integers(0, 100, (n, 28, 28)) + 15 * labels[:, None, None]
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(shades.astype(np.uint8)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))


def shrink() -> None:
    """Makes networks, batches and samples small."""
    small = dataclasses.replace(
        presets.PRESETS["mnist"],
        dense_generator_widths=(8, 16),
        dense_discriminator_widths=(16, 12),
        latent=4,
    )
    presets.PRESETS["mnist"] = small
    score.N_FAKE = run.N_FAKE = 100
    training._TOGETHER = 2
    judge._BATCH, draw_samples.SAMPLES = 64, 3


def kill_after(looks: int) -> None:
    """Sends SIGKILL after this many looks at the metrics."""
    left = [looks]
    kept = training.line

    def line(metrics: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return kept(metrics)

    training.line = line


if __name__ == "__main__":
    shrink()
    if int(sys.argv[1]):
        kill_after(int(sys.argv[1]))
    sys.exit(program.main(sys.argv[2:]))
