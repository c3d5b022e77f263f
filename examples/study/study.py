"""What all runs of a study have in common, and a run's config for the GAN example."""

from pathlib import Path
from typing import NamedTuple

from examples.gan.data import Dataset
from examples.gan.settings import Config
from examples.study.held_out import load_both
from examples.study.judge import Judge
from examples.study.judge_file import judge_of
from examples.study.plan import Job


class Study(NamedTuple):
    """The options of a study.

    Attributes:
        folder: where its records are.
        dataset: a key of the GAN example's presets.
        data_dir: where the data set's files lie.
        steps: updates of the generator in each run.
        epochs: how often the judge sees each image.
    """

    folder: Path
    dataset: str
    data_dir: str | None
    steps: int
    epochs: int


class Material(NamedTuple):
    """What every run needs: loaded once in a process."""

    train: Dataset
    test: Dataset
    judge: Judge


def load_material(study: Study) -> Material:
    """Returns the images and the judge, who is trained if the folder has none."""
    train, test = load_both(study.dataset, study.data_dir)
    return Material(train, test, judge_of(study.folder, train, test, study.epochs))


def config_of(study: Study, job: Job, data_crc32: int) -> Config:
    """Returns the GAN example's config of a run."""
    return Config(
        dataset=study.dataset,
        constraint=job.method,
        steps=study.steps,
        batch_size=64,
        seed=job.seed,
        data_dir=study.data_dir,
        data_crc32=data_crc32,
        loss=job.loss,
        setting=job.setting,
        network=job.network,
    )
