"""The assertions for users' tests: they pass when it is true and say what is not."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import specjax as sx
from specjax.testing import (
    assert_fixed_point,
    assert_only_kernels_differ,
    assert_spectral_norms,
    spectral_norms,
)
from tests.cases import Own, designed

KERNEL = np.float32(designed(7, 5, np.array([1.5, 1.45, 1, 0.5, 0.1])))
STACK = np.stack(
    [designed(6, 4, n * np.array([1, 0.98, 0.5])) for n in (0.5, 1.0, 2.0)]
)
TREES = {
    "dense": {"layer": {"kernel": KERNEL, "bias": 9 * np.ones(5)}},
    "conv": {"layer": {"kernel": KERNEL.reshape(7, 1, 1, 5)}},
    "boxed": {"layer": {"kernel": nn.Partitioned(jnp.asarray(KERNEL), ("a", "b"))}},
    "nnx": nnx.State({"layer": {"kernel": nnx.Param(jnp.asarray(KERNEL))}}),
}
each_tree = pytest.mark.parametrize("params", TREES.values(), ids=TREES)
EXPERTS = {"experts": {"w": STACK}}
BY_EXPERT = {"experts/w": sx.Matrix(batch_axis=0)}


@each_tree
def test_norms_are_those_of_the_designed_spectrum(params):
    (found,) = spectral_norms(params).items()
    assert found == ("layer/kernel", pytest.approx(1.5, rel=1e-6))


def test_norms_of_a_stack_are_one_for_each_slice():
    (norms,) = spectral_norms(EXPERTS, kernels=BY_EXPERT).values()
    np.testing.assert_allclose(norms, [0.5, 1, 2], 1e-6)


def test_norm_of_the_sides_that_the_rule_names():
    kernel = designed(6, 10, np.array([3, 2.9])).reshape(3, 2, 10)
    params = {"w": np.moveaxis(kernel, 2, 1)}
    rule = {"w": sx.Matrix(in_axis=(0, 2), out_axis=1)}
    (found,) = spectral_norms(params, kernels=rule).values()
    np.testing.assert_allclose(found, 3, 1e-6)


def test_norm_of_a_complex_kernel():
    kernel = designed(6, 4, np.array([2, 1.9])) * np.exp(0.3j)
    (found,) = spectral_norms({"Dense_0": {"kernel": kernel}}).values()
    np.testing.assert_allclose(found, 2, 1e-6)


@each_tree
def test_norms_that_hold_pass(params):
    assert_spectral_norms(params, at_most=1.5)
    assert_spectral_norms(params, at_most=1.4, rtol=0.1)
    assert_spectral_norms(params, equal_to=1.5)
    assert_spectral_norms(params, at_most=2.0, equal_to=1.5)


@each_tree
@pytest.mark.parametrize("options", [{"at_most": 1.4}, {"equal_to": 1.4},
    {"equal_to": 1.6}, {"at_most": 2.0, "equal_to": 1.4}])  # fmt: skip
def test_norms_that_do_not_hold_fail_with_path_and_number(params, options):
    with pytest.raises(AssertionError, match=r"layer/kernel: 1\.(5|49999)\d* is not"):
        assert_spectral_norms(params, **options)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e3])
def test_the_tolerance_is_relative(scale):
    params = {"Dense_0": {"kernel": np.float64(KERNEL) * scale}}
    assert_spectral_norms(params, at_most=1.4 * scale, rtol=0.1)
    assert_spectral_norms(params, equal_to=1.4 * scale, rtol=0.1)
    for options in ({"at_most": 1.3 * scale}, {"equal_to": 1.3 * scale}):
        with pytest.raises(AssertionError, match="Dense_0/kernel"):
            assert_spectral_norms(params, rtol=0.1, **options)


def test_a_whole_number_is_a_bound():
    assert_spectral_norms(TREES["dense"], at_most=2)


def test_one_bad_slice_of_a_stack_fails():
    assert_spectral_norms(EXPERTS, at_most=2.0, kernels=BY_EXPERT)
    with pytest.raises(AssertionError, match=r"experts/w: \[0\.5.* 1\.? .*2\.? *\] is"):
        assert_spectral_norms(EXPERTS, at_most=1.9, kernels=BY_EXPERT)


def test_every_kernel_that_fails_is_named():
    params = {"Dense_0": {"kernel": KERNEL}, "Dense_1": {"kernel": 2 * KERNEL}}
    with pytest.raises(AssertionError, match=r"Dense_1/kernel: (3\.0|2\.99)") as error:
        assert_spectral_norms(params, at_most=2.0)
    assert "Dense_0" not in str(error.value)
    with pytest.raises(AssertionError, match=r"(?s)Dense_0/.*\n.*Dense_1/"):
        assert_spectral_norms(params, at_most=1.0)


@pytest.mark.parametrize("options", [{"at_most": 1e9}, {"equal_to": 1.5}])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_kernel_that_is_not_finite_fails(options, bad):
    kernel = KERNEL.copy()
    kernel[2, 3] = bad
    with pytest.raises(AssertionError, match="Dense_0/kernel: nan is not"):
        assert_spectral_norms({"Dense_0": {"kernel": kernel}}, **options)


def test_nothing_to_assert_is_an_error():
    with pytest.raises(ValueError, match="got neither at_most nor equal_to; need one"):
        assert_spectral_norms(TREES["dense"])


def test_operators_are_written_out():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((2, 3, 3, 2, 4)).astype(np.float32)
    conv = sx.Conv((6, 5), batch_axis=0)
    found = spectral_norms({"w": kernel}, kernels={"w": conv})["w"]
    slices = map(jnp.asarray, kernel)
    want = [sx.bounds.exact(one, sx.Conv((6, 5))).value for one in slices]
    np.testing.assert_allclose(found, want, rtol=1e-5)
    own = spectral_norms({"w": kernel[0, 0, 0]}, kernels={"w": Own()})["w"]
    np.testing.assert_allclose(own, np.linalg.norm(kernel[0, 0, 0], 2), rtol=1e-5)
    with pytest.raises(ValueError, match=r"specjax\.testing: got a kernel of shape"):
        spectral_norms({"w": kernel[0]}, kernels={"w": sx.Conv((512, 512))})


def test_only_kernels_differ():
    before = TREES["dense"]
    bias = before["layer"]["bias"]
    assert_only_kernels_differ(before, {"layer": {"kernel": 2 * KERNEL, "bias": bias}})
    moved = {"layer": {"kernel": KERNEL, "bias": np.nextafter(bias, 0)}}
    with pytest.raises(AssertionError, match="layer/bias is not a kernel and has"):
        assert_only_kernels_differ(before, moved)
    cast = {"layer": {"kernel": np.float16(KERNEL), "bias": bias}}
    with pytest.raises(AssertionError, match="float16"):
        assert_only_kernels_differ(before, cast)
    with pytest.raises(AssertionError, match="bias"):
        assert_only_kernels_differ(before, {"layer": {"kernel": KERNEL}})


def test_fixed_point():
    state = {"Dense_0": {"kernel": {"u": jnp.ones(5), "sigma": jnp.ones(())}}}
    assert_fixed_point(state, {"Dense_0": {"kernel": {"u": jnp.zeros(5), "sigma":
        jnp.zeros(())}}})  # fmt: skip
    entry = state["Dense_0"]["kernel"]
    for changed in (
        {"u": entry["u"]},
        entry | {"u": jnp.ones(4)},
        entry | {"u": jnp.ones(5, jnp.bfloat16)},
        entry | {"sigma": jnp.asarray(1.0)},  # weakly typed
    ):
        with pytest.raises(AssertionError):
            assert_fixed_point(state, {"Dense_0": {"kernel": changed}})
