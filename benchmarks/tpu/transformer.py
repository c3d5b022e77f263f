"""A language model's training step: scanned layers, Megatron's sharding, Adam."""

import dataclasses
import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

import specjax as sx

Tree = Any


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The shape of the model; its kernels are float32, its arithmetic bfloat16."""

    n_layers: int = 24
    width: int = 1024
    n_heads: int = 16
    hidden: int = 4096
    vocabulary: int = 32_768
    length: int = 512
    batch: int = 8  # sequences for each device along "data"


class Block(nn.Module):
    """Attention and a multilayer perceptron, each behind a norm and added to x."""

    sizes: Sizes

    @nn.compact
    def __call__(self, x: Float[Array, "n length width"], mask: Array) -> Any:
        """Returns (x after the layer, None), as `nn.scan` wants it."""
        half, sizes = jnp.bfloat16, self.sizes
        y = nn.LayerNorm(dtype=half)(x)
        x += nn.MultiHeadDotProductAttention(sizes.n_heads, dtype=half)(y, mask=mask)
        y = nn.Dense(sizes.hidden, dtype=half)(nn.LayerNorm(dtype=half)(x))
        return x + nn.Dense(sizes.width, dtype=half)(nn.gelu(y)), None


class Transformer(nn.Module):
    """Tokens to logits; the layers are one scanned layer with stacked kernels."""

    sizes: Sizes

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "n length"]
    ) -> Float[Array, "n length vocabulary"]:
        """Returns the logits of each next token."""
        sizes = self.sizes
        embed = nn.Embed(sizes.vocabulary, sizes.width, dtype=jnp.bfloat16)
        mask = nn.make_causal_mask(tokens)
        layers = nn.scan(
            nn.remat(Block, prevent_cse=False),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,  # type: ignore[arg-type]  # what Flax means by it
            length=sizes.n_layers,
        )
        x, _ = layers(sizes)(embed(tokens), mask)
        return embed.attend(nn.LayerNorm(dtype=jnp.bfloat16)(x))


def lower(sizes: Sizes, mesh: Mesh, *, split: bool, normalized: bool) -> Any:
    """Returns the training step of one mesh, ready to be compiled.

    Args:
        sizes: of the model.
        mesh: ("data", "model"), of devices that need not be there.
        split: whether kernels are sharded over "data" too, where "model" leaves an axis
            (ZeRO, fully sharded data parallelism).
        normalized: whether the kernels go through `sn_apply`, or into the model as they
            are.
    """
    adam = optax.adam(1e-4)
    arguments = _abstract_arguments(sizes, mesh, adam, split)
    carried = jax.tree.map(lambda leaf: leaf.sharding, arguments[:3])
    step = functools.partial(_step, Transformer(sizes), adam, normalized)
    out = (*carried, NamedSharding(mesh, P()))
    return jax.jit(step, donate_argnums=(0, 1, 2), out_shardings=out).lower(*arguments)


def _step(
    model: Transformer,
    adam: optax.GradientTransformation,
    normalized: bool,
    params: Tree,
    sn: Tree,
    moments: Tree,
    tokens: Int[Array, "n length"],
) -> tuple[Tree, Tree, Tree, Array]:
    """Returns params, SN state and Adam's moments after one update, and the loss."""

    def loss(params: Tree) -> tuple[Array, Tree]:
        used, new_sn = sx.sn_apply(params, sn) if normalized else (params, sn)
        logits = model.apply({"params": used}, tokens[:, :-1])
        logits = jnp.asarray(logits, jnp.float32)
        each = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        return jnp.mean(each), new_sn

    (value, sn), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    updates, moments = adam.update(gradient, moments)
    return optax.apply_updates(params, updates), sn, moments, value


# Megatron's: the first matrix of a pair is split by its outputs, the second by its
# inputs; whole heads stay together. The axis in front is the stack of layers.
_MEGATRON = {
    r".*(query|key|value|Dense_0)/kernel": P(None, None, "model"),
    r".*(query|key|value|Dense_0)/(bias|kernel/u2?)": P(None, "model"),
    r".*out/kernel": P(None, "model"),
    r".*Dense_1/kernel": P(None, "model"),
    r".*Embed_0/embedding": P("model"),
}
_SPLIT = {
    r".*(query|key|value|Dense_0)/kernel": P(None, "data", "model"),
    r".*out/kernel": P(None, "model", None, "data"),
    r".*Dense_1/kernel": P(None, "model", "data"),
    r".*(out|Dense_1)/kernel/u2?": P(None, "data"),
}


def _abstract_arguments(
    sizes: Sizes, mesh: Mesh, adam: optax.GradientTransformation, split: bool
) -> tuple[Any, ...]:
    """Returns the arguments of the step as shapes with their shardings.

    Adam's moments lie as the params, u and u2 as the output axes of their kernel, and
    tokens over "data". What no rule names is replicated.

    Source: Shoeybi et al., "Megatron-LM" (2019), section 3.
    """
    tokens = jax.ShapeDtypeStruct((1, sizes.length), jnp.int32)
    params = jax.eval_shape(Transformer(sizes).init, jax.random.key(0), tokens)
    rules = _MEGATRON | _SPLIT if split else _MEGATRON

    def place(path: Any, leaf: Any) -> jax.ShapeDtypeStruct:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        specs = (spec for rule, spec in rules.items() if re.fullmatch(rule, name))
        return _placed(leaf, mesh, next(specs, P()))

    carried = jax.eval_shape(functools.partial(_start, adam), params["params"])
    n_rows = sizes.batch * mesh.shape["data"]
    rows = jax.ShapeDtypeStruct((n_rows, sizes.length + 1), jnp.int32)
    placed = jax.tree_util.tree_map_with_path(place, carried)
    return (*placed, _placed(rows, mesh, P("data")))


def _start(adam: optax.GradientTransformation, params: Tree) -> tuple[Tree, Tree, Any]:
    return params, sx.sn_init(params), adam.init(params)


def _placed(leaf: Any, mesh: Mesh, spec: P) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec)
    )
