"""Spectral normalization as an NNX wrapper: a drop-in for `flax.nnx.SpectralNorm`.

The functions need no wrapper (``sn_apply(nnx.state(model, nnx.Param), state)``); this
is for code that wraps layers one by one.
"""

import functools
import weakref
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jax.typing import DTypeLike

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
from specjax._moved import warn_renamed
from specjax._nnx_mean_only import MeanOnlyBatchNorm as MeanOnlyBatchNorm
from specjax._options import Bound, check_flags, check_method, check_options
from specjax.kernels._rules import Kernels, flax_kernels
from specjax.transforms import Options, spectral_norm, step

__all__ = ["MeanOnlyBatchNorm", "SpectralNorm", "SpectralStat"]


class SpectralStat(nnx.BatchStat[jax.Array]):
    """The variable type of u and sigma: carried, not trained, and never averaged."""


class SpectralNorm(nnx.Module):
    """Calls a layer with its kernels normalized; no Param is ever written to.

    The state is warm after construction. ``.train()`` makes each call take a power
    step, ``.eval()`` uses u as it is. Called several times in one forward pass with a
    traced state, at one level of transformations, the layer gets the same kernel each
    time and takes one step.

    Where the result of a Linear or a Conv is small beside its kernel, the result is
    scaled and no normalized kernel comes to be.

    The layer may be a whole network. Its kernels are then normalized together, which
    takes many small ones less time, to compile and to run, than a wrapper around each.
    Results are scaled in traced calls of layers that compute in their kernel's dtype.

    The layer runs as a second module around the normalized params. It shares every
    other variable (batch statistics, random counts, caches); attributes that its call
    makes or rebinds (``self.sow``) stay with the second module.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> layer = SpectralNorm(nnx.Linear(8, 4, rngs=nnx.Rngs(0)))
        >>> y = layer(jnp.ones((2, 8)))
        >>> layer.stats["kernel"]["u"].shape
        (4,)
    """

    def __init__(
        self,
        layer_instance: nnx.Module,
        *,
        n_steps: int = 1,
        epsilon: float = 1e-12,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        error_on_non_matrix: bool = False,
        update_stats: bool = True,
        rngs: nnx.Rngs | None = None,
        bound: Bound = 1.0,
        cap: bool = False,
        grad_sigma: bool = True,
        kernels: Kernels | None = None,
        operator: bool = False,
        method: str = "estimate",
        norm: str | None = None,
    ):
        """Wraps a layer.

        Args:
            layer_instance: the layer: Linear, Conv, attention, a module of your own, or
                a network, whose kernels are found by `flax_kernels`.
            n_steps: power steps for each update.
            epsilon: taken for flax's signature, not used: nothing is added to a norm.
            dtype: the dtype of the normalized kernels; None keeps theirs.
            param_dtype: taken for flax's signature, not used: the state is float32
                (float64 for float64 kernels).
            error_on_non_matrix: refuse kernels of more than two axes.
            update_stats: start in training mode; ``.train()`` and ``.eval()`` switch.
            rngs: taken for flax's signature, not used: the start needs no key.
            bound: the spectral norm of each normalized kernel, above 0.
            cap: only shrink: a kernel below the bound stays as it is.
            grad_sigma: False holds sigma constant in the derivative (SNGP).
            kernels: which leaves of the layer's params are kernels, as for `sn_init`.
                None: read off the layer where flax defines it, else `flax_kernels`.
            operator: the norm of a convolution is that of the operator on images of
                the size of the input, with the layer's own strides, padding and
                dilation; not that of the reshaped kernel, which is smaller. The state
                is made by the first call, for the size of its input.
            method: "estimate" divides by sigma; "upper" by a proved bound, and there is
                no state, as for `sn_apply`.
            norm: the old name of `method`.

        Raises:
            ValueError, TypeError: if the layer has no kernel or one that is undecided,
                or if an option is out of range.
        """
        if norm is not None:
            warn_renamed("SpectralNorm", "norm", "method")
            method = norm
        check_options(bound=bound, n_steps=n_steps)
        check_flags(cap=cap, grad_sigma=grad_sigma)
        check_method(method)
        del epsilon, param_dtype, rngs
        self.layer_instance = layer_instance
        self.n_steps = n_steps
        self.dtype = dtype
        self.error_on_non_matrix = error_on_non_matrix
        # What .train() and .eval() set.
        self.use_running_average: bool = not update_stats
        self.bound = bound
        self.cap = cap
        self.grad_sigma = grad_sigma
        self.kernels = kernels
        self.operator = operator
        self.method = method
        self.stats: dict[str, Any] = nnx.data({})
        if not operator:
            self._init_state(())

    def _init_state(self, inputs: Shape) -> None:
        params = nnx.state(self.layer_instance, nnx.Param)
        sn = spectral_norm(kernels=self._rule(inputs), method=self.method)
        state = sn.init(params)
        self.stats = nnx.data(jax.tree.map(SpectralStat, state))

    def __call__(
        self, *args: Any, update_stats: bool | None = None, **kwargs: Any
    ) -> Any:
        """Calls the layer with normalized kernels.

        Args:
            *args: passed to the layer.
            update_stats: take a power step and keep its u and sigma; None: in training.
            **kwargs: passed to the layer.
        """
        inputs = input_shape(args, kwargs)
        if not self.stats:
            self._init_state(inputs)
        rule = self._rule(inputs)
        update = not self.use_running_average if update_stats is None else update_stats
        graphdef, params, rest = nnx.split(self.layer_instance, nnx.Param, ...)
        state = jax.tree.map(_value, self.stats, is_leaf=_is_variable)
        if self.operator:
            where = type(self.layer_instance).__name__
            check_input_size(where, params, state, rule, inputs)
        options = Options(
            kernels=rule,
            bound=self.bound,
            cap=self.cap,
            n_steps=self.n_steps,
            grad_sigma=self.grad_sigma,
            method=self.method,
        )
        apply = functools.partial(step, options=options, update_stats=update)
        if update and any(
            isinstance(u, jax.core.Tracer) for u in jax.tree.leaves(state)
        ):
            apply = functools.partial(_ONCE.setdefault(self, Once()), apply)
        applied = apply(params, state)
        if update:
            jax.tree.map(_write, self.stats, applied.state, is_leaf=_is_variable)
        # A second module around the normalized params; every other variable is shared.
        params = cast(applied.params, rule, self.dtype)
        layer = nnx.merge(graphdef, params, rest)
        _scale_products(layer, applied.products)
        return layer(*args, **kwargs)

    def _rule(self, inputs: Shape) -> Kernels:
        if self.kernels is not None:
            return self.kernels
        if self.operator:
            rule = operator_rule(self.layer_instance, inputs)
        else:
            rule = matrix_rule(self.layer_instance, flax_kernels)
        return matrices_only(rule) if self.error_on_non_matrix else rule


# Where these keep their product. Not their subclasses: they may do something else.
_PRODUCTS = {nnx.Linear: "dot_general", nnx.Conv: "conv_general_dilated"}


def _scale_products(layer: nnx.Module, products: Any) -> None:
    """Gives each Linear and Conv of a copy that lives for one call a product of ours.

    Inside of a network something may transform a layer (`nnx.remat`, `nnx.vmap`) or
    write to its kernel, and only the product sees what it is called with. There it is
    given in a trace alone: else an `nnx.jit` in the network would meet another product
    in each call, and compile again.
    """
    if products is None:
        return
    for _, module in nnx.iter_modules(layer):
        word = _PRODUCTS.get(type(module))
        if word is None:
            continue
        held = _value(module.kernel)  # type: ignore[attr-defined]  # all of these do
        if module is layer:
            product = products.of_layer(module, word, held, promote_dtype)
        elif isinstance(held, jax.core.Tracer):
            product = products.where_given(module, word)
        else:
            product = None
        if product is not None:
            setattr(module, word, product)


# Only inside a trace, where the module is a copy that dies with it.
_ONCE: weakref.WeakKeyDictionary[SpectralNorm, Once] = weakref.WeakKeyDictionary()


def _is_variable(node: Any) -> bool:
    return isinstance(node, nnx.Variable)


def _value(variable: nnx.Variable) -> Any:
    return variable[...]


def _write(variable: nnx.Variable, value: jax.Array) -> None:
    variable[...] = value
