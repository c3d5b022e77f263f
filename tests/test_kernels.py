"""The rules: which leaf is a kernel, and which matrix."""

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import specjax as sx
from specjax._tree import names_of
from tests.cases import norm, rows


def leaf(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.mark.parametrize(
    ("path", "shape", "want"),
    [
        ("Dense_0/kernel", (3, 4), sx.Matrix()),
        ("anything/kernel", (3, 4), sx.Matrix()),
        ("kernel", (3, 4), sx.Matrix()),
        ("Conv_12/kernel", (3, 8, 16), sx.Matrix()),
        ("Conv_0/kernel", (3, 3, 8, 16), sx.Matrix()),
        ("anything/kernel", (3, 3, 8, 16), sx.Matrix()),
        ("anything/kernel", (3, 3, 3, 8, 16), sx.Matrix()),
        ("a/query/kernel", (8, 2, 4), sx.Matrix(out_axis=(-2, -1))),
        ("a/key/kernel", (8, 2, 4), sx.Matrix(out_axis=(-2, -1))),
        ("a/value/kernel", (8, 2, 4), sx.Matrix(out_axis=(-2, -1))),
        ("a/out/kernel", (2, 4, 8), sx.Matrix()),
        ("a/query/kernel", (8, 8), sx.Matrix()),
        ("VmapDense_0/kernel", (5, 3, 4), sx.Matrix(batch_axis=(0,))),
        ("VmapDense_0/kernel", (3, 4), sx.Matrix()),
        ("CheckpointScanBlock_0/Dense_0/kernel", (5, 3, 4), sx.Matrix(batch_axis=(0,))),
        ("ScanCheckpointBlock_0/Dense_0/kernel", (5, 3, 4), sx.Matrix(batch_axis=(0,))),
        ("VmapScanB_0/Dense_0/kernel", (2, 5, 3, 4), sx.Matrix(batch_axis=(0, 1))),
        ("ScanB_0/Conv_0/kernel", (5, 3, 3, 8, 9), sx.Matrix(batch_axis=(0,))),
        ("ScannedNet_0/Conv_0/kernel", (3, 3, 8, 9), sx.Matrix()),
        (
            "ScanB_0/key/kernel",
            (5, 8, 2, 4),
            sx.Matrix(out_axis=(-2, -1), batch_axis=(0,)),
        ),
        ("a/query/bias", (2, 4), None),
        ("Embed_0/embedding", (50, 8), None),
        ("LayerNorm_0/scale", (8,), None),
        ("kernel/scale", (3, 4), None),
    ],
)
def test_flax_kernels(path, shape, want):
    assert sx.flax_kernels(tuple(path.split("/")), leaf(*shape)) == want


@pytest.mark.parametrize(
    "prefix", ["Remat", "Jit", "Map_variables", "RematScan", "VmapJit", "Vmap_My"]
)
def test_every_name_that_flax_lifts_under(prefix):
    n_stacks = sum(prefix.count(stacking) for stacking in ("Scan", "Vmap"))
    shape = (7, 5, 5, 3, 4) if n_stacks else (5, 3, 4)
    want = sx.Matrix(batch_axis=tuple(range(n_stacks)))
    path = (f"{prefix}Conv_0", "kernel")
    if prefix.endswith("_My"):  # a class of one's own, private
        path = (f"{prefix}_0", "Conv_0", "kernel")
    assert sx.flax_kernels(path, leaf(*shape)) == want


def test_scan_or_vmap_inside_of_a_users_own_name_is_no_stack():
    for name in ("MyScanNet_0", "LineScanBlock_1", "ConvVmapHead"):
        path = (name, "Conv_0", "kernel")
        assert sx.flax_kernels(path, leaf(3, 3, 8, 9)) == sx.Matrix()


def test_first_match_of_a_mapping_wins_and_must_be_full():
    params = {
        "D": {"kernel": jnp.ones((3, 4))},
        "E": {"kernel": jnp.ones((3, 4))},
        "F": {"kernel": jnp.ones((3, 4)), "kernel2": jnp.ones((3, 4))},
    }
    kernels = {r"E/.*": None, r".*/kernel": sx.Matrix(), r"D/.*": sx.Matrix(out_axis=0)}
    state = sx.sn_init(params, kernels=kernels)
    assert state.keys() == {"D", "F"}
    assert state["D"]["kernel"]["u"].shape == (4,)
    assert state["F"].keys() == {"kernel"}


def test_a_mapping_may_end_in_a_rule():
    params = {
        "tied": {"embedding": jnp.ones((5, 3))},
        "D": {"kernel": jnp.ones((3, 4))},
    }
    kernels = {r"tied/embedding": sx.Matrix(), r".*": sx.flax_kernels}
    state = sx.sn_init(params, kernels=kernels)
    assert state.keys() == {"tied", "D"}


def test_a_tree_that_is_one_kernel():
    def kernels(path, leaf):
        return sx.Matrix()

    w = jax.random.normal(jax.random.key(0), (6, 5))
    got, state = sx.sn_apply(w, sx.sn_init(w, kernels=kernels), kernels=kernels)
    assert state.keys() == {"u", "u2", "sigma"}
    assert abs(norm(np.asarray(got, np.float64)) - 1) < 1e-3


@pytest.mark.parametrize("attribute", ["value", "raw_value"])
def test_a_leaf_in_a_box_has_the_path_of_the_box(attribute):
    # As flax keeps it now, and as it did.
    key = jax.tree_util.GetAttrKey(attribute)
    path = (jax.tree_util.DictKey("a"), jax.tree_util.SequenceKey(0), key)
    assert names_of(path) == ("a", "0")
    assert names_of((key, path[0])) == (attribute, "a")


def test_lists_tuples_and_frozen_dicts():
    import flax

    w = jax.random.normal(jax.random.key(0), (6, 5))
    params = flax.core.freeze({"layers": [{"kernel": w}, ({"kernel": 2 * w},)]})
    state = sx.sn_init(params)
    assert state["layers"]["1"]["0"]["kernel"]["sigma"] > 0
    got, after = sx.sn_apply(params, flax.core.freeze(state))
    assert jax.tree.structure(got) == jax.tree.structure(params)
    assert isinstance(after, flax.core.FrozenDict)


def test_flax_names_are_what_the_rule_expects():
    # Each module of flax that has a kernel, by the name that flax gives it today.
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(4, (3,))(x)
            x = nn.ConvTranspose(4, (3,))(x)
            x = nn.MultiHeadAttention(2)(x)
            x = nn.RNN(nn.LSTMCell(4))(x)
            x = nn.RNN(nn.GRUCell(4))(x)
            x = nn.remat(nn.Dense)(5)(x)
            return nn.LayerNorm()(nn.WeightNorm(nn.Dense(4))(x))

    params = Net().init(jax.random.key(0), jnp.ones((2, 7, 4)))["params"]
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    want = sum(path[-1].key == "kernel" for path, _ in flat)
    state = sx.sn_init(params)
    assert len(jax.tree.leaves(state)) == 3 * want


def test_haiku_presets_by_svd():
    def net(x):
        x = hk.Conv2DTranspose(5, 3)(hk.Conv2D(4, 3)(x))
        x = hk.Conv1D(6, 2)(x.reshape(x.shape[0], -1, 5))
        x = hk.Conv1DTranspose(6, 2)(hk.Conv1D(3, 2)(x))
        x = hk.BatchNorm(True, True, 0.9)(x, is_training=True)
        x = hk.experimental.layer_stack(3)(lambda y: hk.Linear(6)(y))(x)
        return hk.Embed(7, 3)(jnp.zeros(2, jnp.int32)), hk.Linear(1)(x)

    params, _ = hk.transform_with_state(net).init(
        jax.random.key(0), jnp.ones((2, 8, 8, 3))
    )
    kernels = sx.haiku_kernels
    got, _ = sx.sn_apply(params, sx.sn_init(params, kernels=kernels), kernels=kernels)
    got = jax.tree.map(lambda x: np.asarray(x, np.float64), got)
    matrices = {
        "conv2_d": rows,
        "conv2_d_transpose": lambda w: np.moveaxis(w, -2, -1).reshape(-1, 5),
        "conv1_d": rows,
        "conv1_d_1": rows,
        "conv1_d_transpose": lambda w: np.moveaxis(w, -2, -1).reshape(-1, 6),
        "linear": rows,
        "__layer_stack_no_per_layer/linear": lambda w: w,
    }
    for name, view in matrices.items():
        (path,) = (p for p in got if p == name or p.endswith("stack/" + name))
        np.testing.assert_allclose(norm(view(got[path]["w"])), 1.0, rtol=1e-3)
    np.testing.assert_array_equal(
        got["embed"]["embeddings"],
        np.asarray(params["embed"]["embeddings"], np.float64),
    )
    with pytest.raises(ValueError, match="does not decide"):
        sx.haiku_kernels(("net/proj", "w"), leaf(2, 3, 4))


class Own(eqx.Module):
    embedding: eqx.nn.Embedding
    attention: eqx.nn.MultiheadAttention
    cell: eqx.nn.GRUCell
    conv: eqx.nn.Conv2d
    up: eqx.nn.ConvTranspose2d
    mlps: eqx.nn.MLP
    norm: eqx.nn.LayerNorm


def own_model():
    keys = jax.random.split(jax.random.key(0), 6)
    many = eqx.filter_vmap(lambda key: eqx.nn.MLP(4, 3, 8, 1, key=key))
    return Own(
        eqx.nn.Embedding(9, 4, key=keys[0]),
        eqx.nn.MultiheadAttention(2, 8, key=keys[1]),
        eqx.nn.GRUCell(4, 5, key=keys[2]),
        eqx.nn.Conv2d(3, 6, 3, key=keys[3]),
        eqx.nn.ConvTranspose2d(3, 6, 4, key=keys[4]),
        many(jax.random.split(keys[5], 3)),
        eqx.nn.LayerNorm((4, 5)),
    )


def test_equinox_preset_by_svd():
    model = own_model()
    params, static = eqx.partition(model, eqx.is_inexact_array)
    sn = sx.spectral_norm(kernels=sx.equinox_kernels(model))
    got, state = sn.apply(params, sn.init(params))
    assert len(jax.tree.leaves(state)) == 3 * (4 + 2 + 1 + 1 + 2)
    flat = {
        "attention": got.attention.query_proj.weight,
        "cell": got.cell.weight_hh,
        "conv": got.conv.weight.reshape(6, -1),
        "up": got.up.weight.reshape(6, -1),
        "mlps": got.mlps.layers[0].weight,
    }
    for name, weight in flat.items():
        got_norm = norm(np.asarray(weight, np.float64))
        np.testing.assert_allclose(got_norm, 1.0, rtol=1e-3, err_msg=name)
    for same in ("embedding", "norm"):
        np.testing.assert_array_equal(
            getattr(got, same).weight, getattr(model, same).weight
        )
    assert eqx.combine(got, static).conv(jnp.ones((3, 5, 5))).shape == (6, 3, 3)


def test_equinox_weight_of_an_unknown_module_is_undecided():
    class Mine(eqx.Module):
        weight: jax.Array

    model = {
        "mine": Mine(jnp.ones((3, 4))),
        "lin": eqx.nn.Linear(3, 4, key=jax.random.key(0)),
    }
    rule = sx.equinox_kernels(model)
    with pytest.raises(ValueError, match="mine/weight: got a kernel"):
        sx.sn_init(model, kernels=rule)
    kernels = {"mine/weight": None, ".*": rule}
    params = eqx.filter(model, eqx.is_inexact_array)
    assert sx.sn_init(params, kernels=kernels).keys() == {"lin"}
