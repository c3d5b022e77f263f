"""The GAN example's score: the Frechet distance against closed forms."""

import numpy as np
import pytest

from examples.gan.report import exact_sigma
from examples.gan.score import frechet_distance


def gaussian_sample(
    mean: np.ndarray, covariance: np.ndarray, n: int = 400
) -> np.ndarray:
    """A sample whose own mean and covariance are exactly these."""
    x = np.random.default_rng(0).standard_normal((n, len(mean)))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ np.linalg.cholesky(covariance).T + mean


def test_distance_of_axis_aligned_gaussians():
    """Without correlation it is a sum over the axes: shift^2 + (sd_a - sd_b)^2."""
    a = gaussian_sample(np.array([1.0, 2.0, 0.0]), np.diag([4.0, 1.0, 9.0]))
    b = gaussian_sample(np.array([0.0, 2.0, 5.0]), np.diag([1.0, 16.0, 9.0]))
    expected = (1 + 0 + 25) + (2 - 1) ** 2 + (1 - 4) ** 2 + 0
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_distance_of_correlated_gaussians_in_the_plane():
    """In two dimensions tr(M^(1/2)) = sqrt(tr M + 2 sqrt(det M))."""
    cov_a = np.array([[2.0, 0.8], [0.8, 1.0]])
    cov_b = np.array([[1.0, -0.5], [-0.5, 3.0]])
    a = gaussian_sample(np.array([0.0, 1.0]), cov_a)
    b = gaussian_sample(np.array([2.0, 1.0]), cov_b)
    product = cov_a @ cov_b
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = 4 + np.trace(cov_a) + np.trace(cov_b) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_distance_is_zero_to_itself_and_symmetric_with_dead_features():
    rng = np.random.default_rng(1)
    a = rng.standard_normal((50, 4)).astype(np.float32)
    b = 2 * rng.standard_normal((70, 4)).astype(np.float32)
    a[:, 3] = b[:, 3] = 0  # a unit that never fires: both covariances are singular
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)


def test_exact_sigma_of_a_convolution_kernel():
    """Orthonormal columns times known scales, folded into a 3x3 kernel."""
    q, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((18, 4)))
    kernel = (q * np.array([0.5, 3.0, 2.0, 1.0])).reshape(3, 3, 2, 4)
    assert exact_sigma(kernel) == pytest.approx(3.0, rel=1e-12)
