"""The one table of kernels: params as the libraries make them, and their matrices.

Each case knows, without specjax, which leaves are kernels and what matrices they are:
that is the oracle's view, in float64 numpy.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import specjax as sx
from specjax.linear_maps import ResolvedMap
from tests.exhaustive import sampled
from tests.program_counts import shared_by_files

FEATURES = 12


class Case(NamedTuple):
    """One params tree.

    Attributes:
        name: for pytest.
        make: returns the params.
        views: for each kernel's path, the function from the float64 array to the array
            of its matrices, (*batch, in, out).
        kernels: what is passed as `kernels`.
    """

    name: str
    make: Callable[[], Any]
    views: dict[str, Callable[[np.ndarray], np.ndarray]]
    kernels: Any = sx.flax_kernels

    def matrices(self, params: Any) -> dict[str, np.ndarray]:
        """Returns the matrices of every kernel of a tree like this case's."""
        return {path: view(_leaf(params, path)) for path, view in self.views.items()}

    def norms(self, params: Any) -> dict[str, np.ndarray]:
        """Returns the largest singular value of each matrix."""
        return {path: norm(m) for path, m in self.matrices(params).items()}


def norm(matrices: np.ndarray) -> np.ndarray:
    """Returns largest singular values, by float64 SVD."""
    return np.linalg.svd(matrices, compute_uv=False)[..., 0]


def _leaf(tree: Any, path: str) -> np.ndarray:
    for name in path.split("/"):
        tree = tree[name] if name in tree else tree[int(name)]
    leaf = tree.value if isinstance(tree, nn.meta.AxisMetadata) else tree
    leaf = np.asarray(leaf[...])
    return leaf.astype(np.complex128 if np.iscomplexobj(leaf) else np.float64)


def rows(kernel: np.ndarray) -> np.ndarray:
    """Miyato's matrix: the last axis is the output."""
    return kernel.reshape(-1, kernel.shape[-1])


def first(kernel: np.ndarray) -> np.ndarray:
    """The first axis is the input, the rest the output."""
    return kernel.reshape(kernel.shape[0], -1)


def stacked(view: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """The first axis is a stack of kernels."""
    return lambda kernel: np.stack([view(one) for one in kernel])


def _init(module: nn.Module, *shape: int) -> Callable[[], Any]:
    @functools.cache
    def make() -> Any:
        init = jax.jit(lambda key: _with_biases(module.init(key, jnp.ones(shape))))
        with shared_by_files():
            return init(jax.random.key(len(shape)))["params"]

    return make


def _with_biases(params: Any) -> Any:
    # Biases are zero after init; a bias that was normalized by mistake must show.
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(9), len(leaves))
    noise = [
        x + 0.1 * jax.random.normal(k, x.shape)
        for x, k in zip(leaves, keys, strict=True)
    ]
    return treedef.unflatten(noise)


class Named(nn.Module):
    """One layer under the name that flax gives it."""

    make: Callable[[], nn.Module]

    @nn.compact
    def __call__(self, x):
        return self.make()(x)


class Block(nn.Module):
    """A block to stack: attention, Dense and a norm."""

    @nn.compact
    def __call__(self, x, _=None):
        x = x + nn.MultiHeadDotProductAttention(num_heads=3)(nn.LayerNorm()(x))
        return x + nn.Dense(FEATURES)(x), None


def _scan() -> nn.Module:
    split = {"params": True}
    lifted = nn.scan(Block, variable_axes={"params": 0}, split_rngs=split, length=4)
    return lifted()


def _vmap() -> nn.Module:
    split = {"params": True}
    lifted = nn.vmap(nn.Dense, variable_axes={"params": 0}, split_rngs=split)
    return lifted(7)


def _boxed() -> nn.Module:
    init = nn.initializers.lecun_normal()
    return nn.Dense(7, kernel_init=nn.with_partitioning(init, ("in", "out")))


@functools.cache
def _nnx_state() -> Any:
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 5, (3, 3), rngs=rngs)
            self.heads = nnx.List([nnx.Linear(5, 7, rngs=rngs) for _ in range(2)])
            self.norm = nnx.LayerNorm(7, rngs=rngs)

    with shared_by_files():
        return nnx.state(Net(nnx.Rngs(0)), nnx.Param)


@functools.cache
def _experts() -> Any:
    with shared_by_files():
        kernel = jax.random.normal(jax.random.key(3), (5, 16, 9))
        return {"moe": {"w_in": kernel, "gate": jnp.ones(5)}}


_ATTENTION = "MultiHeadDotProductAttention_0"
_QKV = dict.fromkeys(("query", "key", "value"), first) | {"out": rows}

CASES = (
    Case(
        "dense",
        _init(Named(lambda: nn.Dense(16)), 2, 11),
        {"Dense_0/kernel": rows},
    ),
    Case(
        "dense_general",
        _init(Named(lambda: nn.DenseGeneral((4, 5), axis=(-2, -1))), 2, 3, 6),
        {"DenseGeneral_0/kernel": lambda k: k.reshape(18, 20)},
        {"DenseGeneral_0/kernel": sx.Matrix(out_axis=(-2, -1))},
    ),
    Case(
        "attention",
        _init(Named(lambda: nn.MultiHeadDotProductAttention(3)), 2, 5, FEATURES),
        {f"{_ATTENTION}/{name}/kernel": view for name, view in _QKV.items()},
    ),
    Case(
        "conv_1d",
        _init(Named(lambda: nn.Conv(8, (5,))), 2, 9, 4),
        {"Conv_0/kernel": rows},
    ),
    Case(
        "conv_2d",
        _init(Named(lambda: nn.Conv(8, (3, 3))), 2, 9, 9, 4),
        {"Conv_0/kernel": rows},
    ),
    Case(
        "conv_3d",
        _init(Named(lambda: nn.Conv(8, (2, 3, 2))), 2, 5, 5, 5, 4),
        {"Conv_0/kernel": rows},
    ),
    Case(
        "conv_depthwise",
        _init(Named(lambda: nn.Conv(8, (3, 3), feature_group_count=8)), 2, 9, 9, 8),
        {"Conv_0/kernel": rows},
    ),
    Case(
        "conv_grouped",
        _init(Named(lambda: nn.Conv(12, (3, 3), feature_group_count=2)), 2, 9, 9, 8),
        {"Conv_0/kernel": rows},
    ),
    Case(
        "conv_transpose",
        _init(Named(lambda: nn.ConvTranspose(6, (4, 4), (2, 2))), 2, 5, 5, 9),
        {"ConvTranspose_0/kernel": rows},
    ),
    Case(
        "conv_transpose_kernel",
        _init(
            Named(lambda: nn.ConvTranspose(6, (4, 4), transpose_kernel=True)),
            *(2, 5, 5, 9),
        ),
        {"ConvTranspose_0/kernel": lambda k: np.moveaxis(k, 2, -1).reshape(-1, 6)},
        {r"ConvTranspose_\d+/kernel": sx.Matrix(out_axis=-2)},
    ),
    Case(
        "einsum",
        _init(Named(lambda: nn.Einsum((3, 6, 5), "bhi,hij->bhj")), 2, 3, 6),
        {"Einsum_0/kernel": lambda k: k},
        {".*/kernel": sx.Matrix(in_axis=1, out_axis=2, batch_axis=0)},
    ),
    Case(
        "scan_stack",
        _init(Named(_scan), 2, 5, FEATURES),
        {
            f"ScanBlock_0/{_ATTENTION}/{name}/kernel": stacked(view)
            for name, view in _QKV.items()
        }
        | {"ScanBlock_0/Dense_0/kernel": stacked(rows)},
    ),
    Case(
        "vmap_stack",
        _init(Named(_vmap), 3, 2, 11),
        {"VmapDense_0/kernel": stacked(rows)},
    ),
    Case(
        "experts",
        _experts,
        {"moe/w_in": lambda k: k},
        {"moe/w_in": sx.Matrix(batch_axis=0)},
    ),
    Case(
        "boxed",
        _init(Named(_boxed), 2, 11),
        {"Dense_0/kernel": rows},
    ),
    Case(
        "nnx_state",
        _nnx_state,
        {"conv/kernel": rows, "heads/0/kernel": rows, "heads/1/kernel": rows},
    ),
)

# The other kernels are a matrix with the output last, as dense and conv_2d are: the
# same program. That each one is read right is a claim over the whole table.
SAMPLED = sampled(
    CASES,
    [
        *("dense", "conv_2d", "conv_transpose_kernel", "attention", "scan_stack"),
        *("experts", "boxed", "nnx_state"),
    ],
    name=lambda case: case.name,
)


@dataclasses.dataclass(frozen=True)
class Own:
    """A linear map of a user's own: the matrix, transposed."""

    def resolve(self, shape, where="kernel"):
        n_out, n_in = shape
        return Transposed(shape=shape, in_shape=(n_in,), out_shape=(n_out,))


class Transposed(ResolvedMap):
    """No more than has to be said."""

    def apply(self, kernel, x):
        return kernel @ x


def designed(n_in: int, n_out: int, spectrum: np.ndarray, seed: int = 0) -> np.ndarray:
    """Returns ``U diag(s) V^T`` with dense orthogonal factors, in float64."""
    rng = np.random.default_rng(seed)
    matrix = np.zeros((n_in, n_out))
    np.fill_diagonal(matrix, spectrum)
    for _ in range(4):  # products of reflections: quick for large sizes
        matrix = _reflect(_reflect(matrix, rng).T, rng).T
    return matrix


def _reflect(matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    a = rng.standard_normal(matrix.shape[0])
    return matrix - np.outer(a * (2 / (a @ a)), a @ matrix)


def enable_x64():
    """Returns the context in which float64 exists, by its name in each jax."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    return importlib.import_module("jax.experimental").enable_x64()
