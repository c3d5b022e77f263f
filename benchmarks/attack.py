"""Tries to break the certificate of the GAN example's discriminator.

    python -m benchmarks.attack [--run FOLDER ...] [--out attack.json]

Device: a CPU with 2 cores. Time: about 4 minutes; with --run, which takes trained runs
of `examples.gan` instead of training two, about 1 minute a run. 10,000 pairs of images
climb the gradient of |D(x) - D(y)| / |x - y| in float32, the best hundred of them ten
times as far; the best pairs are then scored in float64, by numpy and scipy alone.
"""

import argparse
import functools
import json
import math
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64

import specjax as sx
from examples.gan.__main__ import main as train_gan
from examples.gan.checkpoints import Checkpoints
from examples.gan.data import load
from examples.gan.exact import operator_matrix
from examples.gan.mesh import make_mesh
from examples.gan.networks import networks
from examples.gan.operators import operators
from examples.gan.records import read_config
from examples.gan.settings import Config
from examples.gan.state import d_kernels

Images = Float[Array, "n side side channels"]
Score = Callable[[Images], Float[Array, " n"]]

_LEAKY = functools.partial(nn.leaky_relu, negative_slope=0.1)
_BATCH = 500
_DENSE = 2**22  # entries of a matrix that is kept dense
_BEST = 100
_SMALLEST = 0.05  # distance of a pair: below it float32 counts its own rounding
_STEP = 1.0  # in pixel values from -1 to 1, and as a share of the pair's distance


def certify(config: Config, params: Any) -> sx.Certificate:
    """Returns the certificate of the discriminator with these params."""
    preset, network = config.preset, networks(config)[1]
    image_shape = (preset.side, preset.side, preset.channels)
    convolutions = operators(network, image_shape)
    parts: list[Any] = []
    for path in convolutions:
        parts += [path.removesuffix("/kernel"), _LEAKY]
    return sx.lipschitz(
        params,
        [*parts, sx.certificates.Reshape(), "Dense_0"],
        kernels={**convolutions, r".*": sx.flax_kernels},
        input_shape=image_shape,
    )


def attack(
    score: Score,
    score64: Callable[[np.ndarray], np.ndarray],
    real: Float32[np.ndarray, "m side side channels"],
    *,
    n_attempts: int,
    n_steps: int,
    seed: int = 0,
) -> float:
    """Returns the largest |D(x) - D(y)| / |x - y| that gradient ascent has found.

    Args:
        score: the discriminator, which is climbed.
        score64: the same in float64, which counts.
        real: images to start from.
        n_attempts: pairs; a quarter each of two real images, two random ones, a real
            one and a neighbor, and pairs far outside of the images' range.
        n_steps: steps of ascent for each; the best hundred go on for ten times as many.
        seed: of the starts.
    """
    climb = jax.jit(functools.partial(_climb, score), static_argnames="n_steps")
    middles, offsets = _starts(real, n_attempts, np.random.default_rng(seed))
    found = [
        climb(middles[i : i + _BATCH], offsets[i : i + _BATCH], n_steps=n_steps)
        for i in range(0, n_attempts, _BATCH)
    ]
    middles, offsets = map(np.concatenate, zip(*found, strict=True))
    first = _ratios(score64, middles, offsets)
    best = np.argsort(-first)[:_BEST]
    last = _ratios(score64, *climb(middles[best], offsets[best], n_steps=10 * n_steps))
    return float(max(first.max(), last.max()))


def _starts(real: Any, n: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Returns the middle of every pair and the way from its y to its x."""
    each = -(-n // 4)
    x, y = (real[rng.integers(0, len(real), each)] for _ in range(2))
    noise, more = (rng.uniform(-1, 1, x.shape) for _ in range(2))
    size = 10 ** rng.uniform(0, 2, (each, 1, 1, 1))
    pairs = ((x, y), (noise, more), (x, x + 0.1 * noise), (size * noise, size * more))
    x, y = (np.concatenate(side)[:n].astype(np.float32) for side in zip(*pairs))  # noqa: B905
    apart = 0.01 * rng.standard_normal(x.shape, np.float32)  # images may be equal
    return (x + y) / 2, x - y + apart


def _climb(
    score: Score, middle: Images, offset: Images, *, n_steps: int
) -> tuple[Array, Array]:
    """Returns middle and offset where the ratio was best on each pair's way up.

    Middle and offset each move by a normalized step, which shrinks to a tenth: the
    middle in pixel values, the offset as a share of its own length.
    """

    def log_ratio(pair: tuple[Array, Array]) -> Array:
        middle, offset = pair
        both = jnp.concatenate([middle + offset / 2, middle - offset / 2])
        a, b = jnp.split(score(both), 2)
        return jnp.log(jnp.abs(a - b) + 1e-30) - jnp.log(_length(offset).ravel())

    def step(carry: Any, share: Array) -> tuple[Any, None]:
        pair, best, where = carry
        value, pull = jax.vjp(log_ratio, pair)
        better = value > best
        where = jax.tree.map(
            lambda new, old: jnp.where(better[:, None, None, None], new, old),
            pair,
            where,
        )
        middle, offset = pair
        up = [side / (_length(side) + 1e-12) for side in pull(jnp.ones_like(value))[0]]
        middle += _STEP * share * up[0]
        offset += _STEP * share * _length(offset) * up[1]
        offset *= jnp.maximum(1, _SMALLEST / _length(offset))
        return ((middle, offset), jnp.maximum(best, value), where), None

    offset *= jnp.maximum(1, _SMALLEST / _length(offset))
    start = (middle, offset)
    shares = jnp.geomspace(1, 0.1, n_steps)
    first = (start, jnp.full(len(middle), -jnp.inf), start)
    (_, _, where), _ = jax.lax.scan(step, first, shares)
    return where


def _length(images: Images) -> Array:
    return jnp.sqrt(jnp.sum(images**2, (1, 2, 3), keepdims=True) + 1e-30)


def _ratios(
    score64: Callable[[np.ndarray], np.ndarray], middles: Any, offsets: Any
) -> Float64[np.ndarray, " n"]:
    """Returns |D(x) - D(y)| / |x - y| in float64."""
    middles, offsets = np.asarray(middles, np.float64), np.asarray(offsets, np.float64)
    x, y = middles + offsets / 2, middles - offsets / 2
    far = np.linalg.norm((x - y).reshape(len(x), -1), axis=1)
    return np.abs(score64(x) - score64(y)) / far


def written_out(config: Config, params: Any) -> list[tuple[Any, np.ndarray]]:
    """Returns the matrix and the bias of every layer of the discriminator, in float64.

    Without jax. A matrix is sparse where it would not fit otherwise.
    """
    preset = config.preset
    image_shape = (preset.side, preset.side, preset.channels)
    layers = []
    for path, conv in operators(networks(config)[1], image_shape).items():
        layer = params[path.removesuffix("/kernel")]
        matrix = operator_matrix(np.asarray(layer["kernel"]), conv)
        if math.prod(matrix.shape) < _DENSE:
            matrix = matrix.toarray()
        bias = np.asarray(layer["bias"], np.float64)
        layers.append((matrix, np.tile(bias, matrix.shape[1] // len(bias))))
    last = params["Dense_0"]
    kernel, bias = (np.asarray(last[name], np.float64) for name in ("kernel", "bias"))
    return [*layers, (kernel, bias)]


def score_by(layers: list[tuple[Any, Any]], images: Any) -> Any:
    """Returns the scores by these matrices, in numpy or in jax as the images are."""
    x = images.reshape(len(images), -1)
    for matrix, bias in layers[:-1]:
        x = x @ matrix + bias
        x = x * ((x > 0) + 0.1 * (x <= 0))
    matrix, bias = layers[-1]
    return (x @ matrix + bias)[:, 0]


def measure(
    folder: Path, n_attempts: int, n_steps: int
) -> tuple[sx.Certificate, dict[str, Any]]:
    """Returns the certificate of a run's discriminator, and the attack on it."""
    config = read_config(folder)
    state = Checkpoints(folder).restore(config, make_mesh(None))
    assert state is not None, f"{folder} holds no checkpoint"
    params, network = d_kernels(config, state), networks(config)[1]
    certificate = certify(config, params)
    real = load(config.dataset, config.data_dir).images(slice(None))
    start = time.perf_counter()
    best = attack(
        lambda images: jnp.asarray(network.apply({"params": params}, images)),
        functools.partial(score_by, written_out(config, params)),
        real,
        n_attempts=n_attempts,
        n_steps=n_steps,
    )
    return certificate, {
        "dataset": config.dataset,
        "constraint": config.constraint,
        "operator": config.operator,
        "steps": int(state.step),
        "n_attempts": n_attempts,
        "n_steps": n_steps,
        "seconds": time.perf_counter() - start,
        "best_ratio": best,
        "certificate": certificate.value,
        "best_over_certificate": best / certificate.value,
        "holds": best <= certificate.value,
        "factors": [factor._asdict() for factor in certificate.factors],
    }


def _trained(parent: Path, steps: int | None) -> list[Path]:
    """Returns the folders of two new runs on the digits, the second as operators."""
    folders = [parent / "sn", parent / "operator"]
    for folder, options in zip(folders, ([], ["--operator"]), strict=True):
        more = [] if steps is None else ["--steps", str(steps)]
        if train_gan([*options, *more, "--out", str(folder)]) != 0:
            sys.exit(1)
    return folders


def main() -> int:
    """Runs the command line; exit code 1 if a certificate is broken."""
    add = (parser := argparse.ArgumentParser(description=__doc__)).add_argument
    add("--run", action="append", type=Path, help="a trained run's folder; repeatable")
    add("--steps", type=int, help="of training, without --run (default: 5,000)")
    add("--attempts", type=int, default=10_000, help="pairs of images")
    add("--ascent", type=int, default=25, help="steps of ascent for each pair")
    add("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as parent:
        for folder in options.run or _trained(Path(parent), options.steps):
            certificate, result = measure(folder, options.attempts, options.ascent)
            results.append(result)
            print(f"\n{folder}\n{certificate}\n{_sentence(result)}")
    versions = {"jax": jax.__version__, "device": str(jax.devices()[0])}
    versions["machine"] = platform.platform()
    print(*(f"{key}: {value}" for key, value in versions.items()), sep="\n")
    if options.out:
        options.out.write_text(json.dumps(versions | {"runs": results}, indent=2))
    return 0 if all(result["holds"] for result in results) else 1


def _sentence(result: dict[str, Any]) -> str:
    verb = "holds against" if result["holds"] else "IS BROKEN by"
    return (
        f"The certificate {result['certificate']:.4f} {verb} "
        f"{result['n_attempts']:,} attempts: the best reaches "
        f"{result['best_ratio']:.4f}, {result['best_over_certificate']:.1%} of it "
        f"({result['seconds']:.0f} s)."
    )


if __name__ == "__main__":
    sys.exit(main())
