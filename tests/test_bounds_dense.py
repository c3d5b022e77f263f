"""bounds.upper(method="dense"): the operator written out, and how tight that is."""

import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from tests.exhaustive import sampled
from tests.test_conv import GEOMETRIES, dense, make_kernel

SOME = ["strides", "groups", "causal", "explicit", "transposed and flipped"]


@pytest.mark.parametrize("name", sampled(SOME, ["strides", SOME[-1]]))
def test_the_operator_written_out_has_the_kernels_own_entries(name):
    geometry = GEOMETRIES[name]
    kernel = make_kernel(geometry).astype(np.float32)
    exact = np.asarray(dense(geometry, kernel.astype(np.float64)))
    matrix = geometry.conv.resolve(kernel.shape).one.dense(jnp.asarray(kernel))
    np.testing.assert_array_equal(matrix, exact)
    norm = np.linalg.norm(exact, 2)
    bound = sx.bounds.upper(jnp.asarray(kernel), geometry.conv, method="dense")
    assert norm <= bound.value <= 1.001 * norm
    assert (bound.kind, bound.of) == ("upper", "operator")


def test_a_stack_and_its_slices():
    kernels = np.random.default_rng(0).standard_normal((2, 3, 3, 2, 3))
    conv, stacked = sx.Conv((4, 4)), sx.Conv((4, 4), batch_axis=0)
    kernels = jnp.asarray(kernels, jnp.float32)
    stack = sx.bounds.upper(kernels, stacked, method="dense").value
    alone = [sx.bounds.upper(one, conv, method="dense").value for one in kernels]
    np.testing.assert_allclose(stack, alone, rtol=1e-5)


@pytest.mark.parametrize(
    ("linear_map", "options"),
    [
        (sx.Matrix(), {}),
        (sx.Conv((4, 4), padding="CIRCULAR"), {}),
        (sx.Conv((4, 4)), {"every_size": True}),
    ],
)
def test_what_can_not_be_written_out(linear_map, options):
    with pytest.raises(ValueError, match="got method='dense' for a"):
        sx.bounds.upper(jnp.ones((3, 3, 1, 1)), linear_map, method="dense", **options)


def test_one_too_large_to_be_written_out():
    kernel = jnp.ones((3, 3, 64, 64))
    with pytest.raises(ValueError, match=r"128\.\d GiB"):
        sx.bounds.upper(kernel, sx.Conv((32, 32)), method="dense")
