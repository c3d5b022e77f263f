"""Mutations of weight normalization and its kin, and its batch normalization."""

from tests.mutations.mutation import Mutation

_MEAN = "tests/test_normalization.py"
_VARIANTS = "tests/constraints/test_variants.py"
_WEIGHT_NORM = "tests/constraints/test_weight_norm.py"

MUTATIONS = (
    # Split kernels.
    Mutation(
        name="a-mean-that-is-not-finite-goes-to-the-bias",
        file="specjax/constraints/_data_init.py",
        old="mean = jnp.where(jnp.isfinite(mean), mean, 0)",
        new="pass",
        killers=(
            "tests/test_promises.py::test_data_init_with_an_output_that_is_not_finite",
        ),
    ),
    Mutation(
        name="a-unit-that-does-not-vary-is-divided-by-zero",
        file="specjax/constraints/_data_init.py",
        old="wanted = usable(variance)",
        new="wanted = jnp.isfinite(variance)",
        killers=(
            f"{_WEIGHT_NORM}::test_data_init_of_a_stack_and_of_units_that_do_not_vary",
        ),
    ),
    Mutation(
        name="one-pass-of-data-init-for-a-stack",
        file="specjax/constraints/_data_init.py",
        old="math.prod(linear_map.batch_shape)",
        new="math.prod(linear_map.batch_shape[:0])",
        killers=(
            f"{_WEIGHT_NORM}::test_data_init_of_a_stack_whose_slices_follow_each_other",
        ),
    ),
    Mutation(
        name="a-unit-of-zeros-is-divided",
        file="specjax/constraints/_weight_norm.py",
        old="wanted = usable(norm)",
        new="wanted = jnp.isfinite(norm)",
        killers=(
            f"{_WEIGHT_NORM}::test_a_unit_of_zeros_comes_back_with_a_finite_derivative",
        ),
    ),
    Mutation(
        name="a-fused-kernel-has-a-derivative",
        file="specjax/constraints/_weight_norm.py",
        old="return wn_apply(jax.lax.stop_gradient(split), kernels=kernels)",
        new="return wn_apply(split, kernels=kernels)",
        killers=(f"{_WEIGHT_NORM}::test_fused_params_are_plain_and_constant",),
    ),
    Mutation(
        name="numbers-of-units-in-the-order-of-the-kernel",
        file="specjax/constraints/_units.py",
        old="return root(jnp.transpose(squares, [order.index(i) for i in range(len(kept))]))",
        new="return root(squares)",
        killers=(f"{_WEIGHT_NORM}::test_axes_in_any_order",),
    ),
    Mutation(
        name="units-of-a-flipped-convolution-are-its-inputs",
        file="specjax/linear_maps/_conv.py",
        old="unit_axes=(geometry.out_channel_axis,),",
        new="unit_axes=(geometry.n_spatial + 1,),",
        killers=(
            f"{_WEIGHT_NORM}::test_units_of_a_convolution_are_its_output_channels",
        ),
    ),
    Mutation(
        name="a-gain-in-integers-fits",
        file="specjax/constraints/_split.py",
        old="return floats and gain.shape in shapes",
        new="return dtype is not None and gain.shape in shapes",
        killers=(
            f"{_WEIGHT_NORM}::test_bad_input",
            f"{_VARIANTS}::test_gains_that_do_not_fit",
        ),
    ),
    Mutation(
        name="a-reparametrization-in-evaluation-takes-a-step",
        file="specjax/constraints/_sigma_reparam.py",
        old="        update_stats=update_stats,\n",
        new="        update_stats=True,\n",
        killers=(
            f"{_VARIANTS}::test_evaluation_and_steps_are_those_of_spectral_normalization",
        ),
    ),
    Mutation(
        name="the-backward-pass-is-the-forward-pass",
        file="specjax/constraints/_backward.py",
        old="return Matrix(out_axis=-2, batch_axis=forward.batch_axis)",
        new="return forward",
        killers=(f"{_VARIANTS}::test_which_map_is_the_backward_pass",),
    ),
    Mutation(
        name="an-attentions-output-is-a-convolution",
        file="specjax/constraints/_backward.py",
        old='(n_own == 3 and path[-2:-1] == ("out",))',
        new='(n_own == 3 and path[-2:-1] == ("query",))',
        killers=(f"{_VARIANTS}::test_which_map_is_the_backward_pass",),
    ),
    Mutation(
        name="a-bad-kernel-spoils-the-state-of-both-ways",
        file="specjax/constraints/_two_norms.py",
        old="last_finite(new, old.sigma)",
        new="new",
        killers=(f"{_VARIANTS}::test_zero_and_what_is_not_finite", _VARIANTS),
    ),
    Mutation(
        name="both-ways-in-evaluation-take-a-step",
        file="specjax/constraints/_bidirectional.py",
        old="n_steps=n_steps if update_stats else 0,",
        new="n_steps=n_steps,",
        killers=(
            f"{_VARIANTS}::test_bidirectional_evaluation_uses_both_u_as_they_are",
        ),
    ),
    Mutation(
        name="fuse-starts-from-a-blind-vector",
        file="specjax/_core/kernel.py",
        old="start = u + fixed_start(kernel, linear_map)",
        new="start = u",
        killers=(
            "tests/test_contract.py::test_n11_fuse_with_a_state_that_is_blind_to_these_params",
        ),
    ),
    Mutation(
        name="init-keeps-a-sigma-that-is-not-finite",
        file="specjax/_core/krylov.py",
        old="last_finite(sigma, jnp.zeros_like(sigma))",
        new="sigma",
        killers=("tests/test_contract.py::test_n5_bad_kernel_at_init",),
    ),
    # Mean-only batch normalization.
    Mutation(
        name="a-derivative-through-the-running-mean",
        file="specjax/normalization.py",
        old="after = lax.stop_gradient(jnp.where(jnp.isfinite(mean), kept, running))",
        new="after = jnp.where(jnp.isfinite(mean), kept, running)",
        killers=(f"{_MEAN}::test_the_derivative_passes_through_the_mean", _MEAN),
    ),
    Mutation(
        name="a-mean-that-is-not-finite-is-kept",
        file="specjax/normalization.py",
        old="jnp.where(jnp.isfinite(mean), kept, running)",
        new="kept",
        killers=(f"{_MEAN}::test_a_mean_that_is_not_finite_shows_and_is_not_kept",),
    ),
    Mutation(
        name="the-momentum-of-linen-is-the-default",
        file="specjax/_linen_mean_only.py",
        old="            momentum=self.momentum,\n",
        new="            momentum=0.99,\n",
        killers=(f"{_MEAN}::test_linen_carries_what_flax_does",),
    ),
    Mutation(
        name="the-mean-of-linen-moves-in-init",
        file="specjax/_linen_mean_only.py",
        old="if not use_running_average and not self.is_initializing():",
        new="if not use_running_average:",
        killers=(
            f"{_MEAN}::test_linen_carries_what_flax_does",
            f"{_MEAN}::test_linen_bias_dtype_and_modes",
        ),
    ),
    Mutation(
        name="the-mean-of-nnx-moves-in-evaluation",
        file="specjax/_nnx_mean_only.py",
        old="        if not use_running_average:\n            self.mean",
        new="        if True:\n            self.mean",
        killers=(f"{_MEAN}::test_nnx_carries_what_flax_does",),
    ),
    Mutation(
        name="the-features-of-nnx-are-last",
        file="specjax/_nnx_mean_only.py",
        old="            axis=self.axis,\n",
        new="            axis=-1,\n",
        killers=(f"{_MEAN}::test_nnx_over_devices_bias_and_axis",),
    ),
)
