"""The power iteration in float64 numpy, by QR and SVD: shares no code with specjax."""

import numpy as np


def power_steps(kernel, u, n_steps, u2=None):
    """Returns u and sigma after power steps on a matrix (in, out).

    Without u2 the iteration is Miyato's, of one vector; with it, of two, each step
    ending with the best vector of their plane (u then has an arbitrary sign).
    """
    kernel = np.asarray(kernel, np.float64)
    basis = np.stack([u] if u2 is None else [u, u2]).astype(np.float64)
    for _ in range(n_steps):
        left, _ = np.linalg.qr(kernel @ basis.T)
        _, values, right = np.linalg.svd(left.T @ kernel, full_matrices=False)
        basis, last = right, basis
    sign = np.sign(basis[0] @ last[0]) if u2 is None else 1
    return sign * basis[0], values[0]


def assert_same_line(got, want, tol):
    """Asserts that two unit vectors are equal up to their sign."""
    got, want = np.ravel(np.asarray(got, np.float64)), np.ravel(want)
    np.testing.assert_allclose(got * np.sign(got @ want), want, atol=tol)
