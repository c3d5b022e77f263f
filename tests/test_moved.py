"""What a reader finds under a public name, and what is left under an old one."""

import importlib
import inspect
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import specjax as sx
from specjax import constraints, linen
from specjax import nnx as nnx_wrappers
from specjax.optax import clip_weights

ROOMS = ("", ".bounds", ".certificates", ".constraints", ".gan", ".linear_maps")
PUBLIC = [importlib.import_module(f"specjax{room}") for room in ROOMS]
OLD = {
    sx: {
        "specjax.certificates": "AvgPool Claim Factor MaxPool Repeat Reshape Residual "
        "Scale SumPool",
    },
    constraints: {
        "specjax.activations": "group_sort maxmin",
        "specjax.gan": "GanLoss gradient_norms gradient_penalty hinge non_saturating "
        "r1 r2 wasserstein wgan_gp",
        "specjax.normalization": "mean_only",
    },
}
MOVED = [
    (old, f"{home}.{name}", name)
    for old, homes in OLD.items()
    for home, names in homes.items()
    for name in names.split()
]
MOVED += [(constraints, "specjax.gan.interpolate", "between")]


@pytest.mark.parametrize(("old", "new", "name"), MOVED)
def test_an_old_name_works_and_says_the_new_one(old, new, name):
    with pytest.warns(
        DeprecationWarning, match=rf"{old.__name__}\.{name} is now {new}\."
    ):
        value = getattr(old, name)
    home, _, called = new.rpartition(".")
    assert value is getattr(importlib.import_module(home), called)
    assert name not in old.__all__


def test_a_name_that_never_was_is_an_attribute_error():
    for module in (sx, constraints):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            module.nothing  # noqa: B018


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_public_names_say_where_they_are_imported_from(module):
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert value.__module__ in ("specjax", module.__name__), name
            assert value.__doc__, name


def test_every_public_module_has_an_all():
    for info in pkgutil.walk_packages(sx.__path__, "specjax."):
        if any(part.startswith("_") for part in info.name.split(".")):
            continue
        module = importlib.import_module(info.name)
        assert set(module.__all__) <= set(vars(module)), info.name


class OfOldProtocol:
    """A linear map as they were written for specjax 0.1."""

    batch_axis = ()

    def resolve(self, shape, where="kernel"):
        return self

    def one(self):
        return self

    def sides(self, shape):
        return shape[1:], shape[:1]

    def apply(self, kernel, x):
        return kernel @ x

    def adjoint(self, kernel, y):
        return y @ kernel


def test_a_map_of_the_old_protocol_works_and_warns():
    kernel = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    with pytest.warns(DeprecationWarning, match="Return a subclass of specjax.linear"):
        state = sx.sn_init({"w": kernel}, kernels={"w": OfOldProtocol()})
    np.testing.assert_allclose(
        state["w"]["sigma"], np.linalg.norm(kernel, 2), rtol=1e-4
    )
    with pytest.warns(DeprecationWarning, match="which the next release"):
        low = sx.bounds.lower(jnp.asarray(kernel), OfOldProtocol())
    assert low.value <= np.linalg.norm(np.float64(kernel), 2)


PARAMS = {"w": jnp.diag(jnp.array([3.0, 2.0]))}
RULE = {"kernels": {"w": sx.Matrix()}}
W = {"Dense_0": {"kernel": PARAMS["w"]}}
RENAMED = {
    "sn_apply": (lambda **k: sx.sn_apply(PARAMS, {}, **RULE, **k), "norm", "method"),
    "sn_fuse": (lambda **k: sx.sn_fuse(PARAMS, {}, **RULE, **k), "norm", "method"),
    "spectral_norm": (lambda **k: sx.spectral_norm(**k).init(W), "norm", "method"),
    "warm_up": (
        lambda **k: sx.warm_up(PARAMS["w"], jnp.ones(2), **k), "n_steps", "krylov_dim"
    ),
    "lower": (lambda **k: sx.bounds.lower(PARAMS["w"], **k), "n_steps", "krylov_dim"),
    "upper": (lambda **k: sx.bounds.upper(PARAMS["w"], **k), "n_steps", "n_squarings"),
    "bjorck": (
        lambda **k: constraints.bjorck(PARAMS, **RULE, **k), "n_steps", "n_iterations"
    ),
    "spectral_hammer": (
        lambda **k: constraints.spectral_hammer(PARAMS, **RULE, **k),
        "n_steps",
        "krylov_dim",
    ),
    "clip_weights": (
        lambda **k: clip_weights(**RULE, **k).init(PARAMS), "limit", "bound"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RENAMED)
def test_an_old_option_works_and_says_the_new_one(name):
    call, old, new = RENAMED[name]
    value = {"norm": "upper", "limit": 0.5}.get(old, 7)
    with pytest.warns(
        DeprecationWarning, match=rf"{name}\({old}=...\) is now .*{new}="
    ):
        got = call(**{old: value})
    jax.tree.map(np.testing.assert_array_equal, got, call(**{new: value}))


def test_wrappers_take_the_old_option():
    x = jnp.ones((1, 2))
    with pytest.warns(DeprecationWarning, match="SpectralNorm"):
        model = linen.SpectralNorm(nn.Dense(2), norm="upper")
    assert "batch_stats" not in model.init(jax.random.key(0), x)
    with pytest.warns(DeprecationWarning, match="SpectralNorm"):
        layer = nnx_wrappers.SpectralNorm(
            nnx.Linear(2, 2, rngs=nnx.Rngs(0)), norm="upper"
        )
    assert not layer.stats


def test_no_rule_is_flax_kernels():
    kernel = {"Dense_0": {"kernel": PARAMS["w"]}}
    got, want = (sx.sn_init(kernel, kernels=rule) for rule in (None, sx.flax_kernels))
    jax.tree.map(np.testing.assert_array_equal, got, want)
