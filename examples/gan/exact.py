"""Exact norms of convolutions, in float64 and by scipy: what the report checks with."""

from typing import Any

import numpy as np
import scipy.sparse as sp
from jax import lax
from jaxtyping import Float
from scipy.sparse.linalg import svds

import specjax as sx


def operator_norm(
    kernel: Float[np.ndarray, "height width in out"], conv: sx.Conv
) -> float:
    """Returns the largest singular value of a convolution of images of one size.

    The operator is written out as a sparse matrix, and ARPACK finds its norm. Strides,
    and "SAME" or "VALID" padding, as the discriminator has them.
    """
    matrix = operator_matrix(kernel, conv)
    start = np.random.default_rng(0).standard_normal(min(matrix.shape))
    return np.max(svds(matrix, k=1, v0=start, return_singular_vectors=False)).item()


def operator_matrix(
    kernel: Float[np.ndarray, "height width in out"], conv: sx.Conv
) -> Any:
    """Returns the convolution as a sparse matrix (input pixels, output pixels).

    It is the sum over the window of "which pixel meets which" times the channels'
    matrix at that place; "which meets which" is a Kronecker product of the two axes'.
    """
    window, strides = kernel.shape[:2], np.broadcast_to(conv.window_strides, 2)
    pads = lax.padtype_to_pads(conv.input_shape, window, strides, str(conv.padding))
    rows, columns = (
        [_meeting(place, *axis) for place in range(axis[1])]
        for axis in zip(conv.input_shape, window, strides, pads, strict=True)
    )
    wide = kernel.astype(np.float64)
    return sum(
        sp.kron(sp.kron(row, column), wide[i, j], format="csr")
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    )


def _meeting(
    place: int, n_in: int, window: int, stride: int, pad: tuple[int, int]
) -> sp.coo_array:
    """Returns which input each output sees at a place in the window, as 0 and 1."""
    n_out = (n_in + sum(pad) - window) // stride + 1
    outputs = np.arange(n_out)
    inputs = outputs * stride + place - pad[0]
    seen = (inputs >= 0) & (inputs < n_in)
    ones = np.ones(seen.sum())
    return sp.coo_array((ones, (inputs[seen], outputs[seen])), shape=(n_in, n_out))
