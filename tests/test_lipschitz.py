"""`lipschitz`: against dense float64 operators, attacks, and slopes on a dense grid."""

import functools
import inspect
import math
from fractions import Fraction

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import specjax as sx
from specjax import certificates as sc
from specjax.certificates import _activations, _upward
from specjax.certificates._certificate import Certificate, Factor, digits
from tests.cases import enable_x64

leaky = functools.partial(nn.leaky_relu, negative_slope=0.1)
lipschitz = inspect.unwrap(sx.lipschitz)


def dense_layer(n_in, n_out, seed=0):
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal((n_in, n_out)).astype(np.float32)
    return {"kernel": kernel, "bias": rng.standard_normal(n_out).astype(np.float32)}


def norm_of(kernel):
    return np.linalg.norm(np.asarray(kernel, np.float64), 2)


def dense(function, shape):
    """Returns a linear function of one example as a matrix (in, out), in float64."""
    with enable_x64():
        basis = np.eye(math.prod(shape)).reshape(-1, *shape)
        zero = function(np.zeros((1, *shape)))
        return np.asarray(function(basis) - zero).reshape(len(basis), -1)


# --- activations ----------------------------------------------------------------------

OPTIONS = {
    "leaky_relu": [{"negative_slope": 0.1}, {"negative_slope": -3.0}],
    "elu": [{"alpha": 2.5}, {"alpha": 0.5}],
    "celu": [{"alpha": 0.2}, {"alpha": 3.0}],
    "gelu": [{"approximate": True}, {"approximate": False}],
    "squareplus": [{"b": 0.01}],
    "clip": [{"min": -1, "max": 2}],
}
CASES = [
    functools.partial(function, **options) if options else function
    for _, functions in _activations._ROWS
    for function in functions
    if function is not jax.nn.softmax
    for options in [{}, *OPTIONS.get(function.__name__, [])]
]


def called(case):
    function = getattr(case, "func", case)
    words = getattr(case, "keywords", {}) if function is not case else {}
    return " ".join([function.__name__, *(f"{k}={v}" for k, v in words.items())])


@pytest.mark.parametrize("function", CASES, ids=called)
def test_the_constant_is_the_steepest_slope_on_a_dense_grid(function):
    with enable_x64():
        x = np.linspace(-60, 60, 120_001)
        y = np.asarray(function(jnp.asarray(x)), np.float64)
    observed = np.max(np.abs(np.diff(y) / np.diff(x)))
    constant = sx.lipschitz({"a": dense_layer(1, 1)}, [function], unused=["a"]).value
    assert observed * (1 - 1e-9) <= constant <= observed * (1 + 1e-3)


@pytest.mark.parametrize("n", [2, 5])
def test_the_constant_of_softmax_is_a_half(n):
    with enable_x64():
        x = np.random.default_rng(0).standard_normal((400, n)) * np.geomspace(
            1e-2, 50, 400
        ).reshape(-1, 1)
        x[0] = [0.0, 0.0, *[-50.0] * (n - 2)]  # two classes at a half: the steepest
        jacobians = jax.vmap(jax.jacfwd(jax.nn.softmax))(jnp.asarray(x))
        norms = np.linalg.norm(np.asarray(jacobians), 2, axis=(1, 2))
    assert norms.max() <= 0.5 + 1e-12
    assert norms[0] >= 0.5 - 1e-9
    assert _activations.slope_of(jax.nn.softmax).constant == 0.5


def test_every_activation_of_flax_is_known_or_has_a_reason():
    names = [
        *("celu", "elu", "gelu", "glu", "hard_sigmoid", "hard_silu", "hard_swish"),
        *("hard_tanh", "leaky_relu", "log_sigmoid", "log_softmax", "normalize", "relu"),
        *("relu6", "selu", "sigmoid", "silu", "soft_sign", "softmax", "softplus"),
        *("standardize", "swish", "tanh"),
    ]
    unbounded = {"glu", "log_softmax", "normalize", "standardize"}
    for name in names:
        known = _activations.slope_of(getattr(nn, name)) is not None
        assert known == (name not in unbounded), name
        assert known or _activations.reason_for(name), name


def test_the_constants_of_smooth_functions_against_autodiff_at_their_maximum():
    for function, x in (
        (jax.nn.silu, 2.3993572805154675),
        (jax.nn.mish, 1.49057),
        (jax.nn.gelu, 1.41850),
        (functools.partial(jax.nn.gelu, approximate=False), math.sqrt(2)),
    ):
        with enable_x64():
            slope = float(jax.grad(function)(jnp.float64(x)))
        constant = _activations.slope_of(function).constant
        assert slope <= constant <= slope + 1e-6


@pytest.mark.parametrize(
    "function",
    [
        functools.partial(nn.leaky_relu, negative_slope=float("nan")),
        functools.partial(nn.celu, alpha=-1.0),
        functools.partial(nn.celu, alpha=float("nan")),
        functools.partial(nn.softmax, where=np.array([True, False])),
        functools.partial(jax.nn.squareplus, b=-1.0),
        functools.partial(nn.leaky_relu, 0.5),
        functools.partial(jnp.clip, jnp.ones(3)),
        lambda x: nn.relu(x),
        jnp.exp,
        jnp.square,
        nn.log_softmax,
        nn.glu,
        3,
        None,
        object(),
        nn.Dense(3),
    ],
)
def test_what_is_not_in_the_table_is_named_and_infinite(function):
    params = {"Dense_0": dense_layer(3, 3)}
    certificate = sx.lipschitz(params, ["Dense_0", function])
    assert certificate.value == math.inf
    (named,) = certificate.unbounded
    assert named is certificate.factors[1]
    assert named.kind == "none"
    assert len(named.method) > 10
    assert certificate.factors[0].constant < 20


# --- pooling --------------------------------------------------------------------------

POOLS = {
    "2x2 by 2": ((2, 2), (2, 2), "VALID"),
    "2x2 by 1": ((2, 2), None, "VALID"),
    "3x3 by 2, same": ((3, 3), (2, 2), "SAME"),
    "3x3 by 2": ((3, 3), (2, 2), "VALID"),
    "5x3 by 2, 1": ((5, 3), (2, 1), "SAME"),
    "2x3 by 3, 2": ((2, 3), (3, 2), "SAME"),
    "pairs": ((3, 2), (1, 1), ((1, 2), (0, 1))),
    "global": ((12, 9), (12, 9), "VALID"),
}
every_pool = pytest.mark.parametrize("words", POOLS.values(), ids=POOLS)
IMAGE = (12, 9, 1)


@every_pool
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_the_mean_of_a_window_against_its_dense_operator(words, count_include_pad):
    part = sc.AvgPool(*words, count_include_pad=count_include_pad)
    pool = functools.partial(
        nn.avg_pool,
        window_shape=words[0],
        strides=words[1],
        padding=words[2],
        count_include_pad=count_include_pad,
    )
    matrix = dense(pool, IMAGE)
    exact, constant = np.linalg.norm(matrix, 2), part.factor().constant
    assert exact <= constant * (1 + 1e-12)
    if count_include_pad:  # the edges of an image this small cost up to a tenth
        assert constant <= exact * 1.1
        total = sc.SumPool(*words).factor().constant
        assert total == pytest.approx(constant * math.prod(words[0]))
    out = part.output_shape(IMAGE)
    assert matrix.shape == (math.prod(IMAGE), math.prod(out))


def test_pools_of_windows_that_do_not_overlap_are_exact():
    assert sc.AvgPool((2, 2), strides=2).factor().constant == 0.5
    assert sc.SumPool((3, 3), strides=(3, 3)).factor().constant == 3.0
    seventh = sc.AvgPool((7, 7), strides=(7, 7)).factor().constant
    assert 1 / 7 < Fraction(1, 7) <= seventh <= 1 / 7 + 1e-15
    assert sc.MaxPool((2, 2), strides=(2, 2)).factor().constant == 1.0


@every_pool
def test_the_maximum_of_a_window_against_pairs_of_images(words):
    part = sc.MaxPool(*words)
    constant = part.factor().constant
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, *IMAGE)).astype(np.float32)
    size = np.geomspace(1e-2, 1e2, 300).reshape(-1, 1, 1, 1)
    y = x + (size * rng.standard_normal(x.shape)).astype(np.float32)
    spikes = np.eye(math.prod(IMAGE), dtype=np.float32).reshape(-1, *IMAGE)
    x, y = np.concatenate([x, 0 * spikes]), np.concatenate([y, spikes])

    def pool(images):
        pooled = nn.max_pool(images, words[0], strides=words[1], padding=words[2])
        return np.asarray(pooled, np.float64).reshape(len(images), -1)

    far = np.linalg.norm((y - x).reshape(len(x), -1), axis=1)
    ratios = np.linalg.norm(pool(y) - pool(x), axis=1) / far
    assert ratios.max() <= constant * (1 + 1e-6)
    # One bright pixel in the middle is seen by as many windows as a pixel can be.
    assert ratios.max() == pytest.approx(constant)


# --- chains ---------------------------------------------------------------------------


class Linear(nn.Module):
    """Every linear part at once, on images of 8x6."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3))(x)
        branch = nn.Conv(3, (3, 3))(x)
        x = x + nn.Conv(4, (1, 1), use_bias=False)(branch)
        x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        short = nn.Conv(5, (1, 1))(x)
        x = 0.5 * nn.Conv(5, (3, 3), padding="CIRCULAR")(x) + short
        x = nn.Conv(5, (3, 3), strides=2)(x)
        return nn.Dense(7)(x.reshape(len(x), -1))


LINEAR_PARTS = [
    "Conv_0",
    sc.Residual(["Conv_1", "Conv_2"]),
    sc.AvgPool((2, 2), strides=(2, 2)),
    sc.Residual(["Conv_4", sc.Scale(0.5)], shortcut=["Conv_3"]),
    "Conv_5",
    sc.Reshape(),
    "Dense_0",
]
SIZES = {
    "Conv_[012]/kernel": sx.Conv((8, 6)),
    "Conv_3/kernel": sx.Conv((4, 3)),
    "Conv_4/kernel": sx.Conv((4, 3), padding="CIRCULAR"),
    "Conv_5/kernel": sx.Conv((4, 3), window_strides=2),
    r".*": sx.flax_kernels,
}


@functools.cache
def linear_params():
    return Linear().init(jax.random.key(1), jnp.ones((1, 8, 6, 2)))["params"]


@functools.cache
def linear_certificate():
    return sx.lipschitz(
        linear_params(), LINEAR_PARTS, kernels=SIZES, input_shape=(8, 6, 2)
    )


def test_a_linear_network_against_the_svd_of_what_it_computes():
    def network(x):
        return Linear().apply({"params": wide}, x)

    with enable_x64():
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), linear_params())
        exact = np.linalg.norm(dense(network, (8, 6, 2)), 2)
    value = linear_certificate().value
    assert exact <= value
    assert value <= 40 * exact  # a product is above the norm of the composition


def test_one_convolution_and_one_dense_layer_are_nearly_exact():
    params = {"Conv_0": linear_params()["Conv_0"], "Dense_0": dense_layer(30, 20)}
    kernel = params["Conv_0"]["kernel"]
    conv = nn.Conv(4, (3, 3), use_bias=False)

    def apply(x):
        return conv.apply({"params": {"kernel": np.asarray(kernel, np.float64)}}, x)

    exact = np.linalg.norm(dense(apply, (8, 6, 2)), 2)
    for parts, kernels, norm in (
        (["Conv_0"], SIZES, exact),
        (["Dense_0/kernel"], sx.flax_kernels, norm_of(params["Dense_0"]["kernel"])),
    ):
        name = parts[0].split("/")[0]
        value = sx.lipschitz({name: params[name]}, parts, kernels=kernels).value
        assert norm <= value <= norm * 1.1


def test_the_factors_make_the_value():
    certificate = linear_certificate()
    exact = math.prod(Fraction(factor.constant) for factor in certificate.factors)
    assert exact <= certificate.value <= exact * (1 + 2**-50)
    names = [factor.name for factor in certificate.factors]
    assert names[:2] == ["Conv_0", "Residual"]
    branch, shortcut = certificate.factors[1].inner
    assert [factor.name for factor in branch.inner] == ["Conv_1", "Conv_2"]
    assert (shortcut.constant, shortcut.inner) == (1.0, ())
    assert certificate.factors[1].constant >= branch.constant + 1
    assert certificate.unbounded == ()
    assert certificate.factors[0].kind in ("upper", "exact")
    assert "operator" in certificate.factors[0].method
    assert "matrix" in certificate.factors[-1].method


class Curved(nn.Module):
    """Residuals, pooling and activations: a network with a bend in every part."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(6, (3, 3))(x))
        branch = nn.silu(nn.Conv(6, (3, 3))(x))
        x = x + nn.Conv(6, (3, 3))(branch)
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.gelu(nn.Dense(5)(x.reshape(len(x), -1)))
        return nn.softmax(nn.Dense(4)(x))


CURVED_PARTS = [
    "Conv_0",
    nn.relu,
    sc.Residual(["Conv_1", nn.silu, "Conv_2"]),
    sc.MaxPool((2, 2), strides=(2, 2)),
    jnp.ravel,
    "Dense_0",
    nn.gelu,
    "Dense_1",
    nn.softmax,
]


def test_a_random_network_against_gradient_ascent():
    image = (6, 6, 2)
    params = Curved().init(jax.random.key(2), jnp.ones((1, *image)))["params"]
    params = jax.tree.map(lambda leaf: 1.5 * leaf, params)
    kernels = {r"Conv_\d/kernel": sx.Conv((6, 6)), r".*": sx.flax_kernels}
    value = sx.lipschitz(params, CURVED_PARTS, kernels=kernels, input_shape=image).value

    def log_ratio(x, y):
        scores = Curved().apply({"params": params}, jnp.concatenate([x, y]))
        a, b = jnp.split(scores, 2)
        near = jnp.sqrt(jnp.sum((x - y) ** 2, (1, 2, 3)))
        return jnp.log(jnp.sqrt(jnp.sum((a - b) ** 2, 1) + 1e-20) / near)

    @jax.jit
    def climb(x, y):
        gradients = jax.grad(lambda x, y: jnp.sum(log_ratio(x, y)), argnums=(0, 1))(
            x, y
        )
        norms = [
            1e-9 + jnp.sqrt(jnp.sum(g**2, (1, 2, 3), keepdims=True)) for g in gradients
        ]
        x, y = (
            z + 0.1 * g / n for z, g, n in zip((x, y), gradients, norms, strict=True)
        )
        return x, y, jnp.exp(log_ratio(x, y))

    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((64, *image)), jnp.float32)
    y = x + jnp.asarray(0.3 * rng.standard_normal(x.shape), jnp.float32)
    best, first = 0.0, None
    for _ in range(40):
        x, y, ratios = climb(x, y)
        first = first or float(ratios.max())
        best = max(best, float(ratios.max()))
    assert best > 1.3 * first  # the attack is one
    assert best <= value


def test_layers_one_after_another_as_a_scan_applies_them():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            branch = nn.tanh(nn.Dense(6)(x))
            return x + 0.5 * nn.Dense(6)(branch), None

    scan = nn.scan(
        Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
    )

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return scan()(x, None)[0]

    params = Net().init(jax.random.key(0), jnp.ones((1, 6)))["params"]
    inner = [
        "ScanBlock_0/Dense_0",
        nn.tanh,
        "ScanBlock_0/Dense_1",
        sc.Scale(0.5),
    ]
    certificate = sx.lipschitz(params, [sc.Repeat([sc.Residual(inner)])])
    first, second = (
        np.asarray(params["ScanBlock_0"][f"Dense_{i}"]["kernel"]) for i in (0, 1)
    )
    expected = math.prod(
        1 + 0.5 * norm_of(a) * norm_of(b) for a, b in zip(first, second, strict=True)
    )
    assert expected <= certificate.value <= expected * 1.02
    assert [f.name for f in certificate.factors[0].inner] == [
        f"slice {i}" for i in range(3)
    ]
    apply = lambda x: Net().apply({"params": params}, x)  # noqa: E731
    points = 2 * np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    jacobians = np.asarray(jax.vmap(jax.jacfwd(apply))(points))
    assert np.linalg.norm(jacobians, 2, axis=(1, 2)).max() <= certificate.value
    with pytest.raises(ValueError, match="got a stack of 3 kernels; need to know how"):
        sx.lipschitz(params, [sc.Residual(inner)])
    with pytest.raises(ValueError, match="inside of another Repeat"):
        sx.lipschitz(params, [sc.Repeat([sc.Repeat(inner)])])


def test_a_repeat_needs_stacks():
    params = {"a": dense_layer(3, 3)}
    with pytest.raises(ValueError, match="Repeat: got stacks of shapes"):
        sx.lipschitz(params, [sc.Repeat(["a"])], kernels={"a/kernel": sx.Matrix()})


# --- what has no constant -------------------------------------------------------------


def test_attention_and_normalization_are_named_with_their_reason():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.MultiHeadDotProductAttention(2)(x)
            x = nn.LayerNorm()(nn.BatchNorm(use_running_average=False)(x))
            return nn.Dense(3)(nn.Dropout(0.5, deterministic=True)(x))

    variables = jax.eval_shape(Net().init, jax.random.key(0), jnp.ones((1, 5, 4)))
    params = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), variables["params"])
    names = ["MultiHeadDotProductAttention_0", "BatchNorm_0", "LayerNorm_0"]
    certificate = sx.lipschitz(params, [*names, nn.Dropout(0.5), "Dense_0"])
    assert certificate.value == math.inf
    assert [factor.name for factor in certificate.unbounded] == [*names, "Dropout"]
    words = ("dot-product attention", "batch statistics", "deviation", "at random")
    for factor, word in zip(certificate.unbounded, words, strict=True):
        assert word in factor.method
    assert math.isfinite(certificate.factors[-1].constant)
    text = str(certificate)
    assert text.startswith("No finite Lipschitz constant, because of MultiHead")
    by_hand = {"mixer": params["MultiHeadDotProductAttention_0"]}
    (factor,) = sx.lipschitz(by_hand, ["mixer"]).factors
    assert "Kim et al. 2021" in factor.method
    for function in (nn.dot_product_attention, jax.nn.dot_product_attention):
        (factor,) = sx.lipschitz(by_hand, [function], unused=["mixer"]).factors
        assert "dot-product attention" in factor.method


def test_batch_normalization_in_evaluation_is_a_scale():
    rng = np.random.default_rng(0)
    scale, var = rng.standard_normal(4), rng.uniform(0.1, 2, 4)
    params = {"Dense_0": dense_layer(3, 4)}
    by = scale / np.sqrt(var + 1e-5)
    certificate = sx.lipschitz(params, ["Dense_0", sc.Scale(by)], input_shape=(3,))
    norm = norm_of(params["Dense_0"]["kernel"] * by)
    assert norm <= certificate.value
    assert certificate.factors[1].constant == np.abs(by).max()


def test_a_claim_is_listed_as_one():
    params = {"a": dense_layer(3, 3)}
    certificate = sx.lipschitz(params, ["a", sc.Claim("mine", 2.0, "by hand")])
    assert certificate.factors[1] == Factor("mine", 2.0, "upper", "claimed: by hand")
    with pytest.raises(ValueError, match="need a number of 0 or more"):
        sc.Claim("mine", float("nan"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_kernel_that_is_not_finite_has_no_constant(bad):
    layer = dense_layer(3, 3)
    layer["kernel"][1, 1] = bad
    certificate = sx.lipschitz({"a": layer, "b": dense_layer(3, 3)}, ["a", "b"])
    assert certificate.value == math.inf
    assert certificate.factors[0].method == "the kernel is not finite"


def test_a_zero_kernel_and_an_unknown_function_have_no_finite_product():
    params = {"a": {"kernel": np.zeros((3, 3), np.float32)}}
    assert sx.lipschitz(params, ["a"]).value == 0
    assert sx.lipschitz(params, [jnp.exp, "a"]).value == math.inf


def test_another_method_for_the_kernels_must_be_an_upper_bound():
    params = {"a": dense_layer(8, 8)}
    loose = functools.partial(sx.bounds.upper, method="frobenius")
    (factor,) = lipschitz(params, ["a"], upper=loose).factors
    assert factor.method == "Frobenius norm, of the matrix"
    frobenius = np.linalg.norm(params["a"]["kernel"].astype(np.float64))
    assert frobenius <= factor.constant <= frobenius * (1 + 1e-5)
    text = refused(["a"], params, error=TypeError, upper=sx.bounds.exact)
    assert text.startswith("upper: got a norm that is exact (SVD); need an upper bound")


def test_a_small_image_is_written_out_and_a_large_one_is_not():
    kernel = {"a": {"kernel": np.ones((3, 3, 1, 1), np.float32)}}
    for side, method in ((6, "dense"), (40, "on the spectrum")):
        kernels = {"a/kernel": sx.Conv((side, side))}
        (factor,) = lipschitz(kernel, ["a"], kernels=kernels).factors
        assert method in factor.method
        exact = (1 + 2 * math.cos(math.pi / (side + 1))) ** 2
        assert exact <= factor.constant <= exact * 1.01


# --- names and shapes -----------------------------------------------------------------


def refused(parts, params=None, error=ValueError, **options):
    params = params or {"a": dense_layer(3, 4), "b": dense_layer(4, 2)}
    with pytest.raises(error) as caught:
        lipschitz(params, parts, **options)
    return str(caught.value)


def test_a_name_that_does_not_exist_and_a_layer_that_is_forgotten():
    text = refused(["a", "c"])
    assert text.splitlines() == [
        "c: got a name that is not in the params; need a module or a kernel of the "
        "params. Try: one of a, b.",
        "parts: got no part for b/bias, b/kernel of the params; need every layer of "
        "the network in the chain. Try: the missing names in parts, or in unused=[...] "
        "if the network does without them.",
    ]
    params = {"a": dense_layer(3, 4), "norm": {"scale": np.ones(4, np.float32)}}
    assert "got no part for norm/scale" in refused(["a"], params)
    assert lipschitz(params, ["a"], unused=["norm"]).value < 10
    assert "unused c: got a name" in refused(["a", "b"], unused=["c"])
    assert "need a list" in refused("a", error=TypeError)


def test_a_convolution_as_a_matrix_by_its_name_is_refused():
    params = {"Conv_0": {"kernel": np.ones((3, 3, 2, 4), np.float32)}}
    text = refused(["Conv_0"], params)
    assert text.startswith("Conv_0/kernel: got float32[3,3,2,4], read as a matrix by")
    assert "specjax.Conv(input_shape=...)" in text
    refused(["Conv_0"], params, kernels={r".*": sx.flax_kernels})
    refused(["Conv_0"], params, kernels=lambda path, leaf: sx.Matrix())
    kernels = {r"Conv_0/kernel": sx.Matrix()}  # a DenseGeneral, says the caller
    value = lipschitz(params, ["Conv_0"], kernels=kernels).value
    assert value == pytest.approx(math.sqrt(72), rel=1e-2)
    text = refused(["Conv_0"], params, kernels=kernels, input_shape=(8, 8, 2))
    assert "need (3, 3, 2)" in text
    query = {"query": {"kernel": np.ones((4, 2, 3), np.float32)}}
    assert "read as a matrix" in refused(["query"], query)


def test_parts_that_do_not_fit_each_other():
    kernels = SIZES | {"Conv_5/kernel": sx.Conv((8, 6), window_strides=2)}
    params = linear_params()
    text = refused(LINEAR_PARTS, params, kernels=kernels, input_shape=(8, 6, 2))
    assert text.startswith(
        "Conv_5: got an input of shape (4, 3, 5) from the part before it; need "
        "(8, 6, 5)."
    )
    # A convolution is one of one image: with more axes it would be another function.
    text = refused(LINEAR_PARTS, params, kernels=SIZES, input_shape=(2, 8, 6, 2))
    assert text.startswith("Conv_0: got an input of shape (2, 8, 6, 2) from")
    text = refused([*LINEAR_PARTS[:-2], "Dense_0"], params, kernels=SIZES)
    assert "Dense_0: got an input of shape (2, 2, 5)" in text
    assert "specjax.certificates.Reshape()" in text
    parts = ["Conv_0", sc.Residual(["Conv_1"])]
    rest = [name for name in params if name not in ("Conv_0", "Conv_1")]
    text = refused(parts, params, kernels=SIZES, unused=rest)
    assert "a branch of shape (8, 6, 3) and a shortcut of shape (8, 6, 4)" in text
    for part in (
        sc.MaxPool((2,)),
        sc.AvgPool((9, 9)),
        sc.Reshape((5, -1)),
        sc.Scale(np.ones((2, 8, 6, 4))),
        sc.Scale(np.ones(3)),
    ):
        text = refused([part], params, input_shape=(8, 6, 4), unused=list(params))
        assert "got an input of shape (8, 6, 4)" in text


def test_a_module_of_several_layers_is_not_one():
    params = {"block": {"Dense_0": dense_layer(3, 3), "Dense_1": dense_layer(3, 3)}}
    assert "need a layer with one kernel" in refused(["block"], params)
    params = {"block": {"Dense_0": dense_layer(3, 3)}}
    assert "need a layer with one kernel" in refused(["block"], params)
    assert lipschitz(params, ["block/Dense_0"]).value < 10
    params = {"odd": dense_layer(3, 3) | {"scale": np.ones(3)}}
    assert "got a module with odd/bias, odd/kernel, odd/scale" in refused(
        ["odd"], params
    )


def test_bad_pools_and_traced_params():
    for words in (((2, 0), None), ((2, 2), (1,)), ((), None), ((2, 2), 0)):
        with pytest.raises(ValueError, match=r"MaxPool: got window=.*; need an int"):
            sc.MaxPool(*words)
    params = {"a": dense_layer(3, 4)}
    with pytest.raises(TypeError, match="params: got a traced array; need values"):
        jax.jit(lambda params: lipschitz(params, ["a"]).value)(params)


# --- numbers and print ----------------------------------------------------------------

positive = st.floats(0, 1e200, allow_subnormal=True)


@given(st.lists(positive, max_size=6))
def test_sums_and_products_are_never_below_the_exact_ones(numbers):
    for function, exact in (
        (_upward.product, math.prod(map(Fraction, numbers))),
        (_upward.total, sum(map(Fraction, numbers))),
    ):
        rounded = function(numbers)
        assert rounded == math.inf or Fraction(rounded) >= exact
        below = math.nextafter(rounded, 0)
        assert rounded == 0 or below == math.inf or Fraction(below) < exact


@given(st.fractions(0, 10**6))
def test_a_root_is_never_below_the_exact_one(square):
    assert Fraction(_upward.root(square)) ** 2 >= square
    assert _upward.root(square) <= math.sqrt(square) * (1 + 1e-15)


@given(st.floats(0, 1e300, allow_subnormal=False))
def test_printed_numbers_are_rounded_up(number):
    assert number * (1 - 1e-15) <= float(digits(number)) <= number * (1 + 1.1e-5)


def test_the_table_in_print():
    inner = Factor("branch", 2.0, "upper", "product", (Factor("b", 2.0, "upper", "m"),))
    factors = (
        Factor("a", 1.5, "exact", "SVD"),
        Factor("Residual", 3.0, "upper", "sum", (inner,)),
    )
    assert str(Certificate(4.5000001, factors)).splitlines() == [
        "|f(x) - f(y)| <= 4.50001 |x - y|, the product of",
        "part      constant  kind   method",
        "a              1.5  exact  SVD",
        "Residual         3  upper  sum",
        "  branch         2  upper  product",
        "    b            2  upper  m",
    ]
