"""What lies between the layers, on jax arrays: a batch in front, channels last."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp


class OnJax:
    """The operations of `Layers` that have no numbers of their own."""

    relu = staticmethod(jax.nn.relu)
    leaky_relu = staticmethod(functools.partial(jax.nn.leaky_relu, negative_slope=0.1))
    gelu = staticmethod(jax.nn.gelu)

    @staticmethod
    def standardize(x: Any) -> Any:
        """Returns x with mean 0 and variance 1 on the last axis."""
        return jax.nn.standardize(x, axis=-1, epsilon=1e-6)

    @staticmethod
    def average_pool(x: Any) -> Any:
        """Returns the mean of each 2x2 pixels."""
        sums = jax.lax.reduce_window(x, 0.0, jax.lax.add, *_WINDOW, "VALID")
        return sums / 4

    @staticmethod
    def max_pool(x: Any) -> Any:
        """Returns the largest of each 2x2 pixels."""
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *_WINDOW, "VALID")

    @staticmethod
    def sum_pixels(x: Any) -> Any:
        """Returns each channel summed over the image."""
        return jnp.sum(x, (-3, -2))

    @staticmethod
    def flatten(x: Any) -> Any:
        """Returns all numbers of each image."""
        return x.reshape(*x.shape[:-3], -1)

    @staticmethod
    def tokens(x: Any) -> Any:
        """Returns the pixels as tokens."""
        return x.reshape(*x.shape[:-3], -1, x.shape[-1])

    @staticmethod
    def pixels(x: Any, side: int) -> Any:
        """Returns the tokens as pixels."""
        return x.reshape(*x.shape[:-2], side, side, x.shape[-1])

    @staticmethod
    def mean_tokens(x: Any) -> Any:
        """Returns the mean over the tokens."""
        return jnp.mean(x, -2)

    @staticmethod
    def attention(query: Any, key: Any, value: Any, heads: int = 1) -> Any:
        """Returns the values weighed by softmax(query key^T), head by head."""
        query, key, value = (
            x.reshape(*x.shape[:-1], heads, -1) for x in (query, key, value)
        )
        scores = jnp.einsum("...qhd,...khd->...hqk", query, key)
        scores /= math.sqrt(query.shape[-1])
        out = jnp.einsum("...hqk,...khd->...qhd", jax.nn.softmax(scores), value)
        return out.reshape(*out.shape[:-2], -1)


_WINDOW = ((1, 2, 2, 1), (1, 2, 2, 1))
