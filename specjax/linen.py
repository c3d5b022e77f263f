"""Spectral normalization as a Linen wrapper: a drop-in for `flax.linen.SpectralNorm`.

The functions need no wrapper (``sn_apply(variables["params"], state)``); this is for
code that wraps layers one by one.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike

from specjax import errors
from specjax._flax_layers import (
    Once,
    Shape,
    cast,
    check_input_size,
    input_shape,
    matrices_only,
    matrix_rule,
    operator_rule,
)
from specjax._linen_mean_only import MeanOnlyBatchNorm as MeanOnlyBatchNorm
from specjax._moved import warn_renamed
from specjax._options import Bound
from specjax.kernels._rules import Kernels, Rule, as_rule, flax_kernels
from specjax.transforms import Options, Step, spectral_norm, step

__all__ = ["MeanOnlyBatchNorm", "SpectralNorm"]


class SpectralNorm(nn.Module):
    """Calls a layer with its kernels normalized; the layer's params stay as they are.

    The state is in `collection_name`, below this module's name, and mirrors the layer's
    params: ``{"SpectralNorm_0": {"kernel": {"u": ..., "u2": ..., "sigma": ...}}}``. It
    is warm after `init`. In evaluation u is used as it is. Called several times in one
    forward pass, at one level of transformations, the layer gets the same kernel each
    time and takes one step. Where the result of a Dense or a Conv is small beside its
    kernel, the result is scaled and no normalized kernel comes to be.

    The layer may be a whole network. Its kernels are then normalized together, which
    takes many small ones less time, to compile and to run, than a wrapper around each.

    Attributes:
        layer_instance: the layer: Dense, Conv, attention, a module of your own, or a
            network, whose kernels are found by `flax_kernels`.
        n_steps: power steps for each update.
        epsilon: taken for flax's signature, not used: nothing is added to a norm.
        dtype: the dtype of the normalized kernels; None keeps theirs.
        param_dtype: taken for flax's signature, not used: the state is float32
            (float64 for float64 kernels), whatever the dtype of the kernel.
        error_on_non_matrix: refuse kernels of more than two axes.
        collection_name: the collection of the state.
        bound: the spectral norm of each normalized kernel, above 0.
        cap: only shrink: a kernel below the bound stays as it is.
        grad_sigma: False holds sigma constant in the derivative (SNGP).
        kernels: which leaves of the layer's params are kernels, as for `sn_init`. None:
            read off the layer where flax defines it, `flax_kernels` otherwise.
        operator: the norm of a convolution is that of the operator on images of the
            size of the input, with the layer's own strides, padding and dilation; not
            that of the reshaped kernel, which is smaller. The state is of that size.
        method: "estimate" divides by sigma; "upper" by a proved bound, and there is no
            state, as for `sn_apply`.
        norm: the old name of `method`.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp
        >>> class Discriminator(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         x = nn.leaky_relu(SpectralNorm(nn.Dense(64))(x), 0.1)
        ...         return SpectralNorm(nn.Dense(1))(x)
        >>> model, x = Discriminator(), jnp.ones((2, 8))
        >>> variables = model.init(jax.random.key(0), x)
        >>> y, updates = model.apply(variables, x, mutable=["batch_stats"])  # training
        >>> y = model.apply(variables | updates, x)  # evaluation
    """

    layer_instance: nn.Module
    n_steps: int = 1
    epsilon: float = 1e-12
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    error_on_non_matrix: bool = False
    collection_name: str = "batch_stats"
    bound: Bound = 1.0
    cap: bool = False
    grad_sigma: bool = True
    kernels: Kernels | None = None
    operator: bool = False
    method: str = "estimate"
    norm: str | None = None

    def __post_init__(self) -> None:
        """Keeps the order of a mapping, which flax would sort by its keys."""
        if self.kernels is not None:
            object.__setattr__(self, "kernels", as_rule(self.kernels))
        if self.norm is not None:
            warn_renamed("SpectralNorm", "norm", "method")
            object.__setattr__(self, "method", self.norm)
            object.__setattr__(self, "norm", None)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, *args: Any, update_stats: bool | None = None, **kwargs: Any
    ) -> Any:
        """Calls the layer with normalized kernels.

        Args:
            *args: passed to the layer.
            update_stats: take a power step and keep its u and sigma; None: if the
                collection is mutable.
            **kwargs: passed to the layer.

        Raises:
            ValueError: if `update_stats` is True and the collection is not mutable, if
                it has no state for the layer's kernels, if the layer has no kernel or
                one that is undecided, or if an option is out of range.
        """
        inputs = input_shape(args, kwargs)
        if self.is_initializing():
            self._init_state(inputs, *args, **kwargs)
        applied: list[Step] = []

        def normalize(variables: Any) -> Any:
            applied.append(self._applied(variables["params"], inputs, update_stats))
            params = cast(applied[-1].params, self._kernels(inputs), self.dtype)
            return {**variables, "params": params}

        def call(layer: nn.Module) -> Any:
            # In another dtype the layer holds another array than the normalized one.
            with nn.intercept_methods(_scaling(applied[-1].products)):
                return layer(*args, **kwargs)

        return nn.map_variables(call, "params", trans_in_fn=normalize)(
            self.layer_instance
        )

    def _init_state(self, inputs: Shape, *args: Any, **kwargs: Any) -> None:
        self.layer_instance(*args, **kwargs)  # makes its params, just as without us
        params = self.layer_instance.variables.get("params", {})
        if not params:
            message = errors.message(
                self._where(),
                got=f"a {type(self.layer_instance).__name__} without params of its own",
                need="a layer that owns what it is made of",
                fix="wrapping each layer inside it, or making them in its setup",
            )
            raise ValueError(message)
        with self._named_errors():
            state = spectral_norm(
                kernels=self._kernels(inputs), method=self.method
            ).init(params)
        for name, entry in state.items():
            self.variable(self.collection_name, name, lambda entry=entry: entry)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (TypeError, ValueError) as error:
            error.add_note(f"(in the SpectralNorm at {self._where()})")
            raise

    def _where(self) -> str:
        return "/".join(self.path) or "the top level"

    def _update(self, update_stats: bool | None) -> bool:
        if self.is_initializing():
            return False
        mutable = self.is_mutable_collection(self.collection_name)
        if update_stats and not mutable:
            message = errors.message(
                f"{self._where()}, update_stats=True",
                got=f"a collection {self.collection_name!r} that is not mutable",
                need="one to write u and sigma to",
                fix=f"model.apply(..., mutable=[{self.collection_name!r}])",
            )
            raise ValueError(message)
        return mutable if update_stats is None else bool(update_stats)

    def _applied(self, params: Any, inputs: Shape, update_stats: bool | None) -> Step:
        update, kernels = self._update(update_stats), self._kernels(inputs)
        # Below our name there may also be the layer's own statistics.
        held = self.variables.get(self.collection_name, {})
        state = {name: entry for name, entry in held.items() if name in params}
        if not state and self.method == "estimate":
            message = errors.message(
                f"{self._where()}/{self.collection_name}",
                got="no state",
                need="u and sigma of the layer's kernels",
                fix=f"model.apply with the {self.collection_name!r} that init returned",
            )
            raise ValueError(message)
        options = Options(
            kernels=kernels,
            bound=self.bound,
            cap=self.cap,
            n_steps=self.n_steps,
            grad_sigma=self.grad_sigma,
            method=self.method,
        )
        apply = functools.partial(step, options=options, update_stats=update)
        if self.operator:
            check_input_size(self._where(), params, state, kernels, inputs)
        with self._named_errors():
            applied = (self._once() if update else _call)(apply, params, state)
        if update:
            for name, entry in applied.state.items():
                self.put_variable(self.collection_name, name, entry)
        return applied

    def _once(self) -> Once:
        # Not a field: it lives as long as this bound module, which is one forward pass.
        if "_once_per_pass" not in self.__dict__:
            object.__setattr__(self, "_once_per_pass", Once())
        return self.__dict__["_once_per_pass"]

    def _kernels(self, inputs: Shape) -> Kernels:
        if self.kernels is not None:
            return self.kernels
        if self.operator:
            rule = operator_rule(self.layer_instance, inputs)
        else:
            rule = _layer_rule(self.layer_instance)
        return matrices_only(rule) if self.error_on_non_matrix else rule


# Where these keep their product. Not their subclasses: they may do something else.
_PRODUCTS = {nn.Dense: "dot_general", nn.Conv: "conv_general_dilated"}


def _scaling(products: Any) -> Callable[..., Any]:
    """Returns what calls each Dense and Conv, at any depth, with a product to scale."""

    def call(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        word = _PRODUCTS.get(type(layer))
        if word is None or products is None or context.method_name != "__call__":
            return method(*args, **kwargs)
        # In a box there may be more than the kernel; it is then no kernel of ours.
        leaves = jax.tree.leaves(layer.get_variable("params", "kernel"))
        held = leaves[0] if len(leaves) == 1 else None
        product = products.of_layer(layer, word, held, promote_dtype)
        with _attribute(layer, word, product or getattr(layer, word)):
            return method(*args, **kwargs)

    return call


@contextlib.contextmanager
def _attribute(layer: nn.Module, word: str, value: Any) -> Iterator[None]:
    """Gives a bound module another attribute for one call."""
    before = getattr(layer, word)
    object.__setattr__(layer, word, value)
    try:
        yield
    finally:
        object.__setattr__(layer, word, before)


def _call(apply: Callable[[Any, Any], Step], params: Any, state: Any) -> Step:
    return apply(params, state)


def _layer_rule(layer: nn.Module) -> Rule:
    # With its own name in front, which tells whether it is lifted.
    name = f"{type(layer).__name__}_0"
    return matrix_rule(layer, lambda path, leaf: flax_kernels((name, *path), leaf))
