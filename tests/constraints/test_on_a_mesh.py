"""Sharded kernels: the single device's numbers, on automatic and explicit meshes.

And by hand, inside `shard_map`. What moves between devices are numbers and vectors; the
oracle of that is the compiled program's text.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import specjax as sx
from specjax import activations, gan
from specjax import constraints as sc
from tests.exhaustive import exhaustive, sampled
from tests.test_mesh import CASES, both_kinds, collectives, make_mesh
from tests.test_shard_map import by_hand, splits

NAMES = ("dense on both", "conv on both", "query on all", "experts on batch and out")
every_case = pytest.mark.parametrize("name", NAMES)


def on_one_device(name, seed=3):
    return {"w": jax.random.normal(jax.random.key(seed), CASES[name].shape)}


def placed(tree, name, kind):
    return jax.device_put(tree, NamedSharding(make_mesh(kind), CASES[name].kernel))


def close(got, want, tol=2e-6):
    def one(got, want):
        np.testing.assert_allclose(got, want, rtol=tol, atol=tol)

    jax.tree.map(one, got, want)


def everything(name, params, direction):
    """Returns values and gradients of all functions of a tree of kernels."""
    rule = {".*": CASES[name].linear_map}
    state = sx.sn_init(params, kernels=rule)

    def weight_norm(params):
        split = sc.wn_init(params, kernels=rule)
        moved = {"g": jax.tree.map(lambda g: 2 * g + 1, split["g"]), "v": params}
        return jnp.sum(sc.wn_apply(moved, kernels=rule)["w"] * direction["w"])

    def sigma(params):
        return sc.spectral_penalty(params, state, kernels=rule)[0]

    def reparam(params):
        split, state = sc.sr_init(params, kernels=rule)
        return jnp.sum(sc.sr_apply(split, state, kernels=rule)[0]["w"] * direction["w"])

    def orthogonal(params, form):
        return sc.orthogonal_penalty(params, kernels=rule, form=form)

    losses = [weight_norm, sigma, reparam]
    losses += [functools.partial(orthogonal, form=form) for form in FORMS]
    return [jax.value_and_grad(loss)(params) for loss in losses]


FORMS = ("off_diagonal", "squared", "absolute")


@pytest.mark.parametrize(
    ("name", "kind"),
    sampled(
        [(name, AxisType.Explicit) for name in NAMES]
        + [("query on all", AxisType.Auto)],
        [
            ("experts on batch and out", AxisType.Explicit),
            ("query on all", AxisType.Auto),
        ],
    ),
)
def test_values_and_gradients_are_the_single_devices(name, kind):
    params, direction = on_one_device(name), on_one_device(name, 4)
    want = jax.jit(functools.partial(everything, name))(params, direction)
    mesh = make_mesh(kind)
    with jax.set_mesh(mesh):
        params, direction = (placed(t, name, kind) for t in (params, direction))
        got = jax.jit(functools.partial(everything, name))(params, direction)
    for (value, gradient), (want_value, want_gradient) in zip(got, want, strict=True):
        np.testing.assert_allclose(value, want_value, rtol=2e-5)
        size = np.abs(want_gradient["w"]).max()
        close(gradient["w"] / size, want_gradient["w"] / size, 2e-5)
        if kind is AxisType.Explicit:
            assert jax.typeof(gradient["w"]) == jax.typeof(params["w"])


@every_case
@both_kinds
def test_weight_norm_keeps_every_sharding_and_moves_norms_alone(name, kind):
    rule = {".*": CASES[name].linear_map}
    whole = sc.wn_init(on_one_device(name), kernels=rule)
    apply = jax.jit(functools.partial(sc.wn_apply, kernels=rule))
    with jax.set_mesh(make_mesh(kind)):
        params = placed(on_one_device(name), name, kind)
        split = jax.jit(functools.partial(sc.wn_init, kernels=rule))(params)
        merged = apply(split)
        program = apply.lower(split).compile().as_text()
    close(split["g"], whole["g"])
    close(merged, params)
    natural = NamedSharding(make_mesh(kind), CASES[name].u)
    assert split["g"]["w"].sharding.is_equivalent_to(natural, split["g"]["w"].ndim)
    assert merged["w"].sharding.is_equivalent_to(params["w"].sharding, merged["w"].ndim)
    found = collectives(program)
    # The experts' inputs are not split: nothing has to move.
    moved = set() if name.startswith("experts") else {"all-reduce"}
    assert {operation for operation, _ in found} == moved
    assert sum(n_bytes for _, n_bytes in found) <= split["g"]["w"].nbytes


@exhaustive
@both_kinds
def test_bidirectional_on_a_mesh(kind):
    name = "conv on both"
    params = on_one_device(name)
    rules = {"kernels": {".*": sx.Matrix()}, "backward": {".*": sx.Matrix(out_axis=-2)}}

    def compute(params):
        state = sc.bsn_init(params, **rules)
        return sc.bsn_apply(params, state, **rules)[0], sc.bsn_fuse(
            params, state, **rules
        )

    want = jax.jit(compute)(params)
    with jax.set_mesh(make_mesh(kind)):
        params = placed(params, name, kind)
        got = jax.jit(compute)(params)
    close(got, want, 1e-5)
    assert got[0]["w"].sharding.is_equivalent_to(params["w"].sharding, 4)


@both_kinds
def test_penalties_and_activations_of_a_sharded_batch(kind):
    x = jax.random.normal(jax.random.key(0), (8, 6, 8))
    w = jax.random.normal(jax.random.key(1), (8,))

    def compute(w, x):
        def critic(x):
            y = activations.group_sort(activations.maxmin(x * w), 4)
            return jnp.sum(jnp.sin(y * jnp.arange(8.0)), axis=(1, 2))

        key = jax.random.key(2)
        return gan.wgan_gp(critic, x, x[::-1], key) + gan.r1(critic, x)

    want = jax.jit(jax.value_and_grad(compute))(w, x)
    with jax.set_mesh(make_mesh(kind)):
        x = jax.device_put(x, NamedSharding(make_mesh(kind), P("a", None, None)))
        got = jax.jit(jax.value_and_grad(compute))(w, x)
    close(got, want, 1e-5)


@both_kinds
def test_losses_of_a_sharded_batch_of_scores(kind):
    scores = 2 * jax.random.normal(jax.random.key(0), (2, 8, 3))

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def compute(scores):
        found = [
            one
            for loss in (gan.non_saturating, gan.hinge, gan.wasserstein)
            for one in (loss.critic(*scores), loss.generator(scores[1]))
        ]
        return sum(i * one for i, one in enumerate(found, 1)), found

    want = compute(tuple(scores))
    with jax.set_mesh(make_mesh(kind)):
        place = NamedSharding(make_mesh(kind), P("a", None))
        scores = jax.device_put(tuple(scores), place)
        got = compute(scores)
    close(got, want, 1e-5)
    for one, gradient in zip(scores, got[1], strict=True):
        assert gradient.sharding.is_equivalent_to(one.sharding, 2)


@both_kinds
@pytest.mark.parametrize("bias", [P("b"), P()])
def test_first_values_from_a_sharded_batch(kind, bias):
    x = jax.random.normal(jax.random.key(0), (16, 6)) + 1
    params = {
        "a": {"kernel": jax.random.normal(jax.random.key(1), (6, 8))},
        "b": {
            "kernel": jax.random.normal(jax.random.key(2), (8, 12)),
            "bias": jnp.ones(12),
        },
    }
    specs = {"a": {"kernel": P()}, "b": {"kernel": P(None, "b"), "bias": bias}}

    @jax.jit
    def compute(params, x):
        def outputs(params):
            first = x @ params["a"]["kernel"]
            second = jnp.sin(first) @ params["b"]["kernel"] + params["b"]["bias"]
            return {"a": first, "b": second}

        split = sc.wn_data_init(sc.wn_init(params), outputs)
        return split, outputs(sc.wn_apply(split))

    want = compute(params, x)
    np.testing.assert_allclose(want[1]["b"].std(0), 1, rtol=1e-4)
    mesh = make_mesh(kind)
    with jax.set_mesh(mesh):
        place = functools.partial(NamedSharding, mesh)
        params = jax.device_put(params, jax.tree.map(place, specs))
        got = compute(params, jax.device_put(x, place(P("a", None))))
    close(got, want, 2e-5)
    if kind is AxisType.Explicit:
        types = functools.partial(jax.tree.map, jax.typeof)
        assert types(got[0]["v"]) == types(params)


@both_kinds
@pytest.mark.parametrize("spec", [P("a", None, "b"), P(None, None, "b")])
def test_activations_of_sharded_features(kind, spec):
    x = jax.random.normal(jax.random.key(0), (4, 3, 16))

    def compute(x):
        y = activations.group_sort(activations.maxmin(x), 4)
        return jnp.sum(jnp.sin(y * jnp.arange(16.0))), y

    compute = jax.jit(jax.value_and_grad(compute, has_aux=True))
    want = compute(x)
    with jax.set_mesh(make_mesh(kind)):
        x = jax.device_put(x, NamedSharding(make_mesh(kind), spec))
        (value, y), gradient = compute(x)
    close(((value, y), gradient), want, 1e-5)
    for like in (y, gradient):
        assert like.sharding.is_equivalent_to(x.sharding, 3)


BY_HAND = {
    "dense on in": P("a"),
    "dense on both": P("a", "b"),
    "conv on both": P(None, None, "a", "b"),
    "query on all": P("a", "b"),
    "experts on batch and out": P("b", None, "a"),
}


@splits
@pytest.mark.parametrize("name", BY_HAND)
def test_weight_norm_by_hand(name):
    params, specs = on_one_device(name), {"w": BY_HAND[name]}
    rule = {".*": CASES[name].linear_map}
    hand = sx.shard_map_kernels(specs, rule)
    for per_unit in (True, False):
        want = sc.wn_init(params, kernels=rule, per_unit=per_unit)
        init = functools.partial(sc.wn_init, kernels=hand, per_unit=per_unit)
        u = CASES[name].u
        g_spec = u if per_unit else P(*u[: want["g"]["w"].ndim])
        split_specs = {"g": {"w": g_spec}, "v": specs}
        split = by_hand(init, (specs,), split_specs)(params)
        close(split, want)
        split["g"]["w"] = 2 * split["g"]["w"] + 1
        apply = by_hand(
            functools.partial(sc.wn_apply, kernels=hand), (split_specs,), specs
        )
        close(apply(split), sc.wn_apply(jax.device_get(split), kernels=rule))


@splits
@exhaustive
def test_bidirectional_by_hand():
    name = "conv on both"
    params, specs = on_one_device(name), {"w": BY_HAND[name]}
    maps = {"forward": sx.Matrix(), "backward": sx.Matrix(out_axis=-2)}
    plain = {way: {".*": linear_map} for way, linear_map in maps.items()}
    hand = {way: sx.shard_map_kernels(specs, rule) for way, rule in plain.items()}
    direction = on_one_device(name, 4)

    def compute(params, state, direction, rules=hand, total=sum_over("a", "b")):
        rules = {"kernels": rules["forward"], "backward": rules["backward"]}

        def loss(params):
            after, new = sc.bsn_apply(params, state, n_steps=2, **rules)
            return total(jnp.sum(after["w"] * direction["w"])), (after, new)

        gradient, (after, new) = jax.grad(loss, has_aux=True)(params)
        return (gradient, after, sc.bsn_fuse(params, state, **rules)), new

    state = sc.bsn_init(params, kernels=plain["forward"], backward=plain["backward"])
    state_specs = {
        way: sx.state_specs(params, specs, kernels=rule) for way, rule in plain.items()
    }
    split = by_hand(compute, (specs, state_specs, specs), ((specs,) * 3, state_specs))
    got = split(params, state, direction)
    alone = functools.partial(compute, rules=plain, total=lambda loss: loss)
    want = jax.jit(alone)(params, state, direction)
    close(got, want, 1e-5)


@splits
@pytest.mark.parametrize(
    "name",
    sampled(
        ["dense on both", "experts on batch and out"], ["experts on batch and out"]
    ),
)
def test_reparametrization_by_hand(name):
    params, specs = on_one_device(name), {"w": BY_HAND[name]}
    rule, direction = {".*": CASES[name].linear_map}, on_one_device(name, 4)
    hand = sx.shard_map_kernels(specs, rule)

    def compute(split, state, direction, kernels=hand, total=sum_over("a", "b")):
        def loss(split):
            after, new = sc.sr_apply(split, state, kernels=kernels, n_steps=2)
            return total(jnp.sum(after["w"] * direction["w"])), (after, new)

        gradient, (after, new) = jax.grad(loss, has_aux=True)(split)
        return gradient, new, (after, sc.sr_fuse(split, state, kernels=kernels))

    split, state = sc.sr_init(params, kernels=rule)
    split["g"]["w"] = 2 * split["g"]["w"] + 1
    state_specs = sx.state_specs(params, specs, kernels=rule)
    split_specs = {"g": {"w": state_specs["w"]["sigma"]}, "v": specs}
    got = by_hand(
        compute,
        (split_specs, state_specs, specs),
        (split_specs, state_specs, (specs, specs)),
    )(split, state, direction)
    alone = functools.partial(compute, kernels=rule, total=lambda loss: loss)
    close(got, jax.jit(alone)(split, state, direction), 1e-5)
    init = functools.partial(sc.sr_init, kernels=hand)
    started = by_hand(init, (specs,), (split_specs, state_specs))(params)
    close(started[0], sc.sr_init(params, kernels=rule)[0], 1e-5)


def sum_over(*names):
    return functools.partial(jax.lax.psum, axis_name=names)


@splits
@pytest.mark.parametrize("name", ["dense on in", "experts on batch"])
def test_penalties_by_hand(name):
    params = on_one_device(name)
    specs = {"w": P("a") if name == "dense on in" else P("b")}
    rule = {".*": CASES[name].linear_map}
    hand = sx.shard_map_kernels(specs, rule)
    state = sx.sn_init(params, kernels=rule)
    state_specs = sx.state_specs(params, specs, kernels=rule)

    def penalties(params, state, kernels=hand):
        sigma = sc.spectral_penalty(params, state, kernels=kernels)[0]
        return sigma, sc.orthogonal_penalty(params, kernels=kernels)

    got = by_hand(penalties, (specs, state_specs), (P(), P()))(params, state)
    close(got, penalties(params, state, rule), 1e-5)


def test_outputs_split_by_hand_have_no_inner_products():
    kernel = on_one_device("dense on out")["w"]
    params = {"v": kernel, "w": kernel, "x": kernel}
    specs = {"v": P(None, "b"), "w": P(None, "b"), "x": P("a")}
    hand = sx.shard_map_kernels(specs, {".*": sx.Matrix()})
    penalty = functools.partial(sc.orthogonal_penalty, kernels=hand)
    with pytest.raises(ValueError, match="got") as caught:
        by_hand(penalty, (specs,), P(), checked=False)(params)
    assert str(caught.value).splitlines() == [
        f"{name}: got output units that are split over devices by hand; need all units "
        "on each device: each is multiplied with each. Try: a spec that splits the "
        "input side, or the penalty outside shard_map."
        for name in ("v", "w")
    ]
