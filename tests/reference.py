"""The power iteration in float64 numpy, by QR and SVD, without the code of specjax."""

import numpy as np

from specjax._core.vectors import hashed_unit_vector

TURN, PUSH = 0.07, 1e-3  # docs/design/0002


def power_steps(kernel, u, n_steps, u2=None):
    """Returns u and sigma after power steps on a matrix (in, out).

    Without u2 the iteration is Miyato's, of one vector; with it, of two, each step
    ending with the best vector of their plane (u then has an arbitrary sign). Where
    the second is pushed to is all that is taken from specjax.
    """
    kernel = np.asarray(kernel, np.float64)
    basis = np.stack([u] if u2 is None else [u, u2]).astype(np.float64)
    for _ in range(n_steps):
        last = basis
        basis, sigma = _step(kernel, basis)
    sign = np.sign(basis[0] @ last[0]) if u2 is None else 1
    return sign * basis[0], sigma


def two_vectors(kernel, u, u2):
    """Returns u, u2 and sigma after one power step, with the signs of specjax."""
    (u, u2), sigma = _step(np.asarray(kernel, np.float64), np.stack([u, u2]))
    return u, u2, sigma


def _step(kernel, basis):
    left, triangle = np.linalg.qr(kernel @ basis.T)
    signs = np.sign(np.diag(triangle))
    left, triangle = left * signs, signs[:, None] * triangle
    turn, values, right = np.linalg.svd(left.T @ kernel, full_matrices=False)
    if len(basis) == 1:
        return right, values[0]
    # Signs, of which the push has one: the larger share of v is positive, and the plane
    # is turned, not mirrored.
    main = np.sign(turn[np.argmax(abs(turn[:, 0])), 0])
    turn, right = main * turn, main * right
    # v = W made; u turns away from it in the plane of both, by `angle`.
    made = basis.T @ np.linalg.solve(triangle, turn[:, 0])
    made /= np.linalg.norm(made)
    u, second = right[0], right[1] * np.linalg.det(turn)
    cosine = u @ made
    angle = np.arctan2(np.linalg.norm(made - cosine * u), cosine)
    ahead = u - made / cosine
    share = np.arctan((np.sin(angle) / TURN) ** 2)
    ahead *= np.sin(share) / np.linalg.norm(ahead)
    push = PUSH * np.asarray(hashed_unit_vector(u.shape, np.float32))
    return np.stack([u, np.cos(share) * second + ahead + push]), values[0]


def assert_same_line(got, want, tol):
    """Asserts that two unit vectors are equal up to their sign."""
    got, want = np.ravel(np.asarray(got, np.float64)), np.ravel(want)
    np.testing.assert_allclose(got * np.sign(got @ want), want, atol=tol)
