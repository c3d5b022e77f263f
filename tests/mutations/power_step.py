"""Mutations of the power step, sigma, the division by it, and the warm-up."""

from tests.mutations.mutation import Mutation

_ARROWS = "tests/test_arrows.py"
_CONTRACT = "tests/test_contract.py"
_SHARD_MAP = "tests/test_shard_map.py"

MUTATIONS = (
    # The power step.
    Mutation(
        name="no-push-of-u2",
        file="specjax/_core/rayleigh_ritz.py",
        old="PERTURBATION = 1e-3",
        new="PERTURBATION = 0.0",
        killers=(
            f"{_ARROWS}::test_the_further_u_turns_the_more_of_u2_is_where_it_turns_to",
        ),
    ),
    Mutation(
        name="no-cut-of-a-rounded-product",
        file="specjax/_core/rayleigh_ritz.py",
        old="return lax.rsqrt(jnp.maximum(too_small, 1)).astype(c.dtype)",
        new="return jnp.ones_like(too_small).astype(c.dtype)",
        killers=(
            f"{_ARROWS}::test_sigma_from_vectors_that_the_kernel_maps_to_rounding",
        ),
    ),
    Mutation(
        name="a-vector-next-to-nothing-is-no-rounding",
        file="specjax/_core/rayleigh_ritz.py",
        old="clear = COLLINEAR_SHARE * sigma * jnp.abs(c2) < 1",
        new="clear = sigma > -1",
        killers=(f"{_ARROWS}::test_u2_does_not_follow_u_where_it_is_next_to_nothing",),
    ),
    Mutation(
        name="the-same-push-where-nothing-is-beside-u",
        file="specjax/_core/rayleigh_ritz.py",
        old="push=jnp.where(beside > 0, PERTURBATION, share)",
        new="push=jnp.full_like(share, PERTURBATION)",
        killers=(f"{_ARROWS}::test_the_norm_of_a_kernel_of_rank_one_is_not_exceeded",),
    ),
    Mutation(
        name="the-tangent-has-the-other-sign",
        file="specjax/_core/rayleigh_ritz.py",
        old="n.residual * (new_u - made_from)",
        new="n.residual * (made_from - new_u)",
        killers=(
            f"{_ARROWS}::test_the_further_u_turns_the_more_of_u2_is_where_it_turns_to",
        ),
    ),
    Mutation(
        name="no-conj-of-the-weights-in-the-outputs",
        file="specjax/_core/rayleigh_ritz.py",
        old="c, s = self.weights",
        new="c, s = map(jnp.conj, self.weights)",
        killers=(f"{_ARROWS}::test_v_of_a_complex_kernel_is_what_u_is_the_image_of",),
    ),
    Mutation(
        name="a-tie-turns-u",
        file="specjax/_core/rayleigh_ritz.py",
        old="half, off = half + tie, jnp.where(jnp.abs(off) > tie, off, 0)",
        new="half, off = half, off",
        killers=(f"{_ARROWS}::test_a_tie_does_not_turn_u",),
    ),
    Mutation(
        name="a-second-length-of-rounding-is-kept",
        file="specjax/_core/rayleigh_ritz.py",
        old="beside > NEGLIGIBLE_LENGTH**2 * rest",
        new="beside > 0",
        killers=(
            f"{_ARROWS}::test_what_two_nearly_parallel_vectors_have_across_is_no_rounding",
        ),
    ),
    Mutation(
        name="sums-of-a-pair-without-conj",
        file="specjax/_core/rayleigh_ritz.py",
        old="sums = [jnp.sum(jnp.conj(first) * second)",
        new="sums = [jnp.sum(first * second)",
        killers=(
            f"{_ARROWS}::test_longest_vector_of_a_plane",
            f"{_CONTRACT}::test_n8_complex64",
        ),
    ),
    Mutation(
        name="no-guard-of-zero-in-evaluation",
        file="specjax/_core/step.py",
        old=(
            "v = inverse(sigma).astype(product.dtype) * product\n"
            "    return SingularVectors(u, u2, jnp.where(usable(sigma), v, 0), sigma)"
        ),
        new=(
            "v = (1 / sigma).astype(product.dtype) * product\n"
            "    return SingularVectors(u, u2, v, sigma)"
        ),
        killers=(
            "tests/test_promises.py::test_derivatives_at_a_zero_kernel_are_finite",
        ),
    ),
    Mutation(
        name="a-derivative-through-the-power-step",
        file="specjax/_core/step.py",
        old=("    kernel, u, u2 = lax.stop_gradient((kernel, u, u2))\n"),
        new="",
        killers=(
            "tests/test_promises.py::test_no_derivative_passes_through_a_power_iteration",
        ),
    ),
    Mutation(
        name="one-step-less-in-the-loop",
        file="specjax/_core/step.py",
        old="lax.fori_loop(0, n_steps - 1,",
        new="lax.fori_loop(0, n_steps - 2,",
        killers=(f"{_CONTRACT}::test_n_steps_are_power_steps",),
    ),
    Mutation(
        name="v-of-a-bad-kernel-is-not-zero",
        file="specjax/_core/rayleigh_ritz.py",
        old="return jnp.where(usable(self.sigma), c * v + s * v2, 0)",
        new="return c * v + s * v2",
        killers=(f"{_ARROWS}::test_v_of_a_kernel_that_is_zero_or_not_finite_is_zero",),
    ),
    # sigma and the division by it.
    Mutation(
        name="no-second-derivative-of-sigma",
        file="specjax/_core/sigma.py",
        old="return _sigma(linear_map, *primals), tangent",
        new="return value, tangent",
        killers=(
            "tests/test_promises.py::test_the_second_derivative_of_sigma_is_that_of_a_linear_function",
        ),
    ),
    Mutation(
        name="a-derivative-in-u-and-v",
        file="specjax/_core/sigma.py",
        old="kernel, *lax.stop_gradient((value, u, v)))",
        new="kernel, *(lax.stop_gradient(value), u, v))",
        killers=(f"{_ARROWS}::test_sigma_and_its_derivative",),
    ),
    Mutation(
        name="no-guard-of-zero-in-the-division",
        file="specjax/_core/sigma.py",
        old="jnp.where(wanted, sigma, 1)",
        new="sigma",
        killers=(f"{_ARROWS}::test_normalize",),
    ),
    Mutation(
        name="cap-raises-what-is-below-the-bound",
        file="specjax/_core/sigma.py",
        old="wanted &= ratio < 1",
        new="wanted &= ratio > 0",
        killers=(f"{_CONTRACT}::test_bound_and_cap",),
    ),
    Mutation(
        name="a-scale-in-the-kernels-narrow-dtype",
        file="specjax/_core/sigma.py",
        old="scale = jnp.expand_dims(scale, linear_map.kernel_axes).astype(wide)",
        new=(
            "scale = jnp.expand_dims(scale, linear_map.kernel_axes)\n"
            "    scale = scale.astype(kernel.dtype).astype(wide)"
        ),
        killers=(f"{_CONTRACT}::test_n8_half_precision_is_of_the_storage_only",),
    ),
    Mutation(
        name="a-capped-kernel-keeps-its-derivative",
        file="specjax/_core/kernel.py",
        old="value = value if grad_sigma else lax.stop_gradient(value)",
        new="value = lax.stop_gradient(value) if cap else value",
        killers=(f"{_CONTRACT}::test_derivatives_in_kernel_and_bound",),
    ),
    Mutation(
        name="no-derivative-in-the-bound",
        file="specjax/_core/sigma.py",
        old="ratio = jnp.asarray(bound, sigma.dtype) /",
        new="ratio = lax.stop_gradient(jnp.asarray(bound, sigma.dtype)) /",
        killers=(f"{_CONTRACT}::test_derivatives_in_kernel_and_bound",),
    ),
    Mutation(
        name="orthogonalized-once",
        file="specjax/_core/krylov.py",
        old="for _ in range(2):",
        new="for _ in range(1):",
        killers=(_ARROWS,),
    ),
    Mutation(
        name="no-breakdown",
        file="specjax/_core/krylov.py",
        old="BREAKDOWN = 1e-5",
        new="BREAKDOWN = 0.0",
        killers=(f"{_ARROWS}::test_warm_up_basis_is_orthonormal_and_ends_at_the_rank",),
    ),
    Mutation(
        name="a-krylov-space-of-the-rank",
        file="specjax/_core/krylov.py",
        old="n_steps = max(1, min(n_steps, n_in + 1, n_out))",
        new="n_steps = max(1, min(n_steps, n_in, n_out))",
        killers=(f"{_ARROWS}::test_warm_up_of_a_wide_kernel_reaches_its_rank",),
    ),
    Mutation(
        name="a-krylov-space-of-one-shards-size",
        file="specjax/_core/krylov.py",
        old="n_out = math.prod(linear_map.out_shape) * count(shards.over_y)",
        new="n_out = math.prod(linear_map.out_shape)",
        killers=(f"{_SHARD_MAP}::test_shards_give_what_the_whole_kernel_gives",),
    ),
    Mutation(
        name="coordinates-without-conj",
        file="specjax/_core/krylov.py",
        old="jnp.sum(jnp.conj(basis) * vector[None], axis=axes)",
        new="jnp.sum(basis * vector[None], axis=axes)",
        killers=(f"{_CONTRACT}::test_n8_complex64", _ARROWS),
    ),
)
