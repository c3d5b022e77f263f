"""Which linear map a kernel is in the backward pass, where its outputs are inputs."""

from typing import Any

from specjax._tree import Path
from specjax.kernels._rules import flax_kernels
from specjax.linear_maps import LinearMap, Matrix
from specjax.linear_maps._resolved import as_tuple


def backward_kernels(path: Path, leaf: Any) -> LinearMap | None:
    """The rule for the backward pass, of trees with Flax's names.

    A convolution's output side is then its input channels, the last axis but one. Of
    any other kernel it is the map of `flax_kernels`: a matrix and its transpose have
    one norm.

    Args:
        path: names from the root to the leaf, for example ``("Conv_0", "kernel")``.
        leaf: the leaf, or anything with its shape.

    Raises:
        ValueError: for a kernel whose axes these names do not decide.

    Example:
        >>> import numpy as np
        >>> backward_kernels(("Conv_0", "kernel"), np.zeros((3, 3, 8, 16)))
        Matrix(in_axis=None, out_axis=-2, batch_axis=(), spec=None)
        >>> backward_kernels(("Dense_0", "kernel"), np.zeros((8, 16)))
        Matrix(in_axis=None, out_axis=-1, batch_axis=(), spec=None)
    """
    forward = flax_kernels(path, leaf)
    if forward is None or forward.out_axis != -1:
        return forward
    n_own = len(leaf.shape) - len(as_tuple(forward.batch_axis))
    # Of three axes below "out" is an attention's output projection (heads, dim, out).
    if n_own == 2 or (n_own == 3 and path[-2:-1] == ("out",)):
        return forward
    return Matrix(out_axis=-2, batch_axis=forward.batch_axis)
