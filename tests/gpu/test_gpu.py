"""On a GPU: full precision, one read of each kernel, and the CPU's results.

`python -m pytest -m gpu`, from source. The oracle is a float64 SVD in numpy; for the
traffic it is what the compiler says of its own program.
"""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from examples.gan.data import load, real_on
from examples.gan.mesh import first_state, make_mesh
from examples.gan.settings import Config
from examples.gan.train import make_train_step

# A new jax or a driver may warn of something: that is not what is tested here.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

RULE = {".*": sx.Matrix()}
WIDE, CONV = (1024, 4608), (3, 3, 128, 256)
# In TF32 a product is off by some 1e-4, in bfloat16 by 1e-3.
FULL = 1e-5


def normal(shape, dtype=jnp.float32):
    return {"w": jax.random.normal(jax.random.key(0), shape, dtype)}


def svd_norm(kernel):
    matrix = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
    return np.linalg.norm(matrix, 2)


@functools.cache
def cpu():
    return jax.devices("cpu")[0]


@pytest.mark.parametrize("shape", [WIDE, CONV])
def test_sigma_and_the_fused_kernel_are_the_svds(shape):
    params = normal(shape)
    state = jax.jit(functools.partial(sx.sn_init, kernels=RULE))(params)
    exact = svd_norm(params["w"])
    np.testing.assert_allclose(state["w"]["sigma"], exact, rtol=1e-3)
    low = jax.jit(functools.partial(sx.bounds.lower, n_steps=300))(params["w"])
    np.testing.assert_allclose(low.value, exact, rtol=FULL)
    fused = jax.jit(functools.partial(sx.sn_fuse, kernels=RULE))(params, state)
    np.testing.assert_allclose(svd_norm(fused["w"]), 1, rtol=1e-3)


def test_bounds_and_certificates_hold_in_full_precision():
    kernel = normal((512, 512))["w"]
    values = np.linalg.svd(np.asarray(kernel, np.float64), compute_uv=False)
    np.testing.assert_allclose(sx.bounds.singular_values(kernel), values, rtol=1e-3)
    np.testing.assert_allclose(sx.bounds.exact(kernel).value, values[0], rtol=FULL)
    upper = float(sx.bounds.upper(kernel).value)
    assert values[0] <= upper <= values[0] * (1 + 4e-3)
    certified, _ = sx.sn_apply({"w": kernel}, {}, kernels=RULE, method="upper")
    assert svd_norm(certified["w"]) <= 1


def test_a_convolution_as_an_operator():
    kernel, conv = normal((3, 3, 8, 16))["w"], sx.Conv((12, 12), padding="CIRCULAR")
    spectrum = np.fft.fft2(np.asarray(kernel, np.float64), (12, 12), axes=(0, 1))
    exact = np.linalg.svd(spectrum, compute_uv=False).max()
    np.testing.assert_allclose(sx.bounds.exact(kernel, conv).value, exact, rtol=FULL)
    low = sx.bounds.lower(kernel, conv, krylov_dim=300).value
    np.testing.assert_allclose(low, exact, rtol=FULL)
    assert exact <= sx.bounds.upper(kernel, conv).value <= exact * (1 + 4e-3)
    dilated = sx.Conv((12, 12), window_strides=2)
    x = jax.random.normal(jax.random.key(1), (12, 12, 8))
    y = jax.random.normal(jax.random.key(2), (6, 6, 16))
    forward = np.vdot(dilated.apply(kernel, x), y)
    backward = np.vdot(x, dilated.adjoint(kernel, y))
    np.testing.assert_allclose(forward, backward, rtol=1e-4)


@pytest.mark.parametrize("linear_map", [sx.Matrix(), sx.Conv((8, 8))])
def test_a_training_step_is_the_cpus(linear_map):
    sn = sx.spectral_norm(kernels={".*": linear_map})
    params = normal((3, 3, 16, 24))

    def loss(params, state):
        used, state = sn.apply(params, state)
        return jnp.sum(jnp.sin(used["w"])), state

    def step(params):
        return jax.value_and_grad(loss, has_aux=True)(params, sn.init(params))

    got = jax.jit(step)(params)
    want = jax.jit(step)(jax.device_put(params, cpu()))
    (value, state), gradient = got
    (want_value, want_state), want_gradient = want
    np.testing.assert_allclose(value, want_value, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(state["w"]["sigma"], want_state["w"]["sigma"], rtol=FULL)
    np.testing.assert_allclose(gradient["w"], want_gradient["w"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_step_reads_the_kernel_twice_and_does_not_copy_it(dtype):
    params = normal((4096, 4096), dtype)
    state = jax.jit(functools.partial(sx.sn_init, kernels=RULE))(params)

    def measure(params, state):
        return sx.sn_apply(params, state, kernels=RULE)[1]

    compiled = jax.jit(measure).lower(params, state).compile()
    kernel = params["w"].nbytes
    n_bytes = compiled.cost_analysis()["bytes accessed"]
    assert n_bytes <= 2.2 * kernel, n_bytes / kernel
    assert compiled.memory_analysis().temp_size_in_bytes <= 0.1 * kernel


def test_a_bad_step_does_not_poison_the_state():
    params = normal((256, 128))
    state = sx.sn_init(params, kernels=RULE)
    step = jax.jit(functools.partial(sx.sn_apply, kernels=RULE))
    for bad in (jnp.nan, jnp.inf, 0.0):
        _, state = step({"w": params["w"] * bad}, state)
    after, _ = step(params, state)
    np.testing.assert_allclose(svd_norm(after["w"]), 1, rtol=1e-3)


def test_the_gans_step_is_the_cpus():
    config = Config("digits", "sn", steps=5, batch_size=24, seed=3, data_dir=None)
    data, rows = load("digits", None), np.arange(24)[None]
    losses = []
    for device in (jax.devices()[0], cpu()):
        with jax.default_device(device):
            mesh = make_mesh(None, [device])
            step, real = make_train_step(config, mesh), real_on(mesh, data, rows)
            _, metrics = step(first_state(config, mesh), real, np.uint32(3))
            losses.append([float(metrics["d_loss"]), float(metrics["g_loss"])])
    # The networks' own convolutions run in TF32 by default.
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-2, atol=2e-2)


def test_the_command_line_runs_from_source(tmp_path):
    np.savez(tmp_path / "params.npz", **{"Dense_0.kernel": normal((64, 32))["w"]})
    done = subprocess.run(
        [sys.executable, "-m", "specjax", "report", str(tmp_path / "params.npz")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "64x32" in done.stdout
