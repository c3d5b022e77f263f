"""MaxMin and GroupSort against numpy, and their Jacobians, which are permutations."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from specjax.activations import group_sort, maxmin


def in_numpy(x, size, axis):
    moved = np.moveaxis(x, axis, -1)
    groups = np.sort(moved.reshape(*moved.shape[:-1], -1, size), axis=-1)
    return np.moveaxis(groups.reshape(moved.shape), -1, axis)


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_every_group_is_sorted(axis, size):
    x = np.float32(np.random.default_rng(0).standard_normal((8, 16, 8)))
    got = jax.jit(group_sort, static_argnums=(1, 2))(jnp.asarray(x), size, axis)
    np.testing.assert_array_equal(got, in_numpy(x, size, axis))
    if size == 2:
        turned = np.flip(np.moveaxis(np.asarray(got), axis, -1).reshape(-1, 2), -1)
        pairs = np.moveaxis(np.asarray(maxmin(jnp.asarray(x), axis)), axis, -1)
        np.testing.assert_array_equal(pairs.reshape(-1, 2), turned)


@pytest.mark.parametrize(
    "activation", [maxmin, lambda x: group_sort(x, 4)], ids=["maxmin", "group_sort"]
)
def test_the_jacobian_is_a_permutation_ties_included(activation):
    for x in (
        jnp.array([3.0, -1.0, 2.0, 2.0, 0.0, 0.0, -5.0, 0.0]),
        jnp.zeros(8),
        jax.random.normal(jax.random.key(0), (8,)),
    ):
        for jacobian in (jax.jacrev, jax.jacfwd):
            j = np.asarray(jacobian(activation)(x))
            assert set(np.unique(j)) == {0, 1}
            np.testing.assert_array_equal(j @ j.T, np.eye(8))
            np.testing.assert_array_equal(j @ x, activation(x))


@pytest.mark.parametrize("p", [1, 2, np.inf])
def test_lipschitz_in_every_norm(p):
    x, y = jax.random.normal(jax.random.key(0), (2, 50, 12))
    for activation in (maxmin, lambda x: group_sort(x, 6)):
        moved = np.linalg.norm(activation(x) - activation(y), p, axis=1)
        assert (moved <= np.linalg.norm(x - y, p, axis=1) * (1 + 1e-6)).all()
        np.testing.assert_allclose(
            np.linalg.norm(activation(x), p, axis=1),
            np.linalg.norm(x, p, axis=1),
            rtol=1e-6,
        )


def test_other_kinds_nan_and_vmap():
    assert maxmin(jnp.array([1, 2, 4, 3])).tolist() == [2, 1, 4, 3]
    assert maxmin(jnp.ones(4, jnp.bfloat16)).dtype == jnp.bfloat16
    assert jnp.isnan(maxmin(jnp.array([jnp.nan, 1.0, 2.0, 3.0]))[:2]).sum() == 1
    assert jnp.isnan(group_sort(jnp.array([jnp.nan, 1.0, 2.0, 3.0]), 4)).sum() == 1
    x = jax.random.normal(jax.random.key(0), (5, 6))
    np.testing.assert_array_equal(jax.vmap(maxmin)(x), maxmin(x))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda x: maxmin(x),
            "x: got 5 entries along axis 1, in groups of 2; need a size that divides",
        ),
        (
            lambda x: group_sort(x, 3, 0),
            "x: got 4 entries along axis 0, in groups of 3",
        ),
        (lambda x: group_sort(x, 0), "x: got 5 entries along axis 1, in groups of 0"),
        (
            lambda x: maxmin(x, 2),
            "x: got axis=2 of float32[4,5]; need an axis that it has. Try: axis=-1.",
        ),
    ],
)
def test_bad_input(call, text):
    with pytest.raises(ValueError, match="^" + re.escape(text)):
        call(jnp.ones((4, 5)))
