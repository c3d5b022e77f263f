"""The score of a run: a Frechet distance on the judge's features, and the classes."""

from typing import Any

import numpy as np
from jaxtyping import Float32

from examples.gan.data import Dataset
from examples.gan.score import frechet_distance
from examples.study.curves import number, numbers
from examples.study.judge import Judge

N_REAL, N_FAKE = 10_000, 5_000  # as Miyato et al. 2018 took for theirs


class Scorer:
    """A judge that has seen the real images already."""

    def __init__(self, judge: Judge, train: Dataset, test: Dataset) -> None:
        """Looks at held-out images, and at as many training images as of a run.

        The floor is the distance of the latter: what a generator that drew from the
        training images would get.
        """
        self._judge = judge
        _, self._real = judge.look(test.images(slice(N_REAL)))
        picked = np.random.default_rng(2).permutation(len(train))[:N_FAKE]
        _, others = judge.look(train.images(np.sort(picked)))
        self._about = {
            "n_real": len(self._real),
            "n_fake": N_FAKE,
            "floor": number(frechet_distance(self._real, others)),
            "judge_accuracy": judge.accuracy,
            "n_test": judge.n_test,
        }

    def score(
        self, fake: Float32[np.ndarray, "n side side channels"] | None
    ) -> dict[str, Any]:
        """Returns what a record keeps; no distance for no images or for NaN in them."""
        distance, shares = None, None
        if fake is not None and np.isfinite(fake).all():
            classes, features = self._judge.look(fake)
            distance = number(frechet_distance(self._real, features))
            counts = np.bincount(classes, minlength=10)
            shares = numbers(counts / len(fake))
        return {"distance": distance, "class_shares": shares, **self._about}
