"""What a network is written with: layers by name, and what lies between them.

A network is a function `net(layers, x)`, and each framework has one class of `Layers`.
"""

from collections.abc import Callable
from typing import Any, Protocol


class Layers(Protocol):
    """The primitives; each layer is called once, under a name of its own.

    Images, tokens and features are whatever the framework takes them for: with a batch
    axis or without, channels first or last.
    """

    def dense(self, name: str, x: Any, features: int) -> Any:
        """Returns x times a kernel, plus a bias, on the last axis."""
        ...

    def conv(
        self, name: str, x: Any, features: int, window: int, stride: int = 1
    ) -> Any:
        """Returns the convolution, a bias added, padded so that size is by stride."""
        ...

    def array(self, name: str, shape: tuple[int, ...], start: float) -> Any:
        """Returns trained numbers that are no kernel, which begin near `start`."""
        ...

    def relu(self, x: Any) -> Any:
        """Returns max(x, 0)."""
        ...

    def leaky_relu(self, x: Any) -> Any:
        """Returns x, times 0.1 where it is negative."""
        ...

    def gelu(self, x: Any) -> Any:
        """Returns x times the normal distribution's function, by its tanh formula."""
        ...

    def standardize(self, x: Any) -> Any:
        """Returns x with mean 0 and variance 1 on the last axis."""
        ...

    def average_pool(self, x: Any) -> Any:
        """Returns the mean of each 2x2 pixels."""
        ...

    def max_pool(self, x: Any) -> Any:
        """Returns the largest of each 2x2 pixels."""
        ...

    def sum_pixels(self, x: Any) -> Any:
        """Returns the features: each channel summed over the image."""
        ...

    def flatten(self, x: Any) -> Any:
        """Returns all numbers of the image as features, channels last."""
        ...

    def tokens(self, x: Any) -> Any:
        """Returns the pixels of an image as tokens, channels last."""
        ...

    def pixels(self, x: Any, side: int) -> Any:
        """Returns tokens as the pixels of a square image."""
        ...

    def mean_tokens(self, x: Any) -> Any:
        """Returns the features: the mean over all tokens."""
        ...

    def attention(self, query: Any, key: Any, value: Any, heads: int = 1) -> Any:
        """Returns, for each token, the values weighed by softmax(query key^T)."""
        ...


Net = Callable[[Layers, Any], Any]
