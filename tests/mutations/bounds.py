"""Mutations of bounds, which have to stay bounds."""

from tests.mutations.mutation import Mutation

_BOUNDS = "tests/test_bounds.py"
_CONV = "tests/test_bounds_conv.py"
_DENSE = "tests/test_bounds_dense.py"

MUTATIONS = (
    # Rounding.
    Mutation(
        name="half-of-the-rounding",
        file="specjax/bounds/_rounding.py",
        old="total = n * float(jnp.finfo(dtype).eps) / 2",
        new="total = n * float(jnp.finfo(dtype).eps) / 4",
        killers=(f"{_BOUNDS}::test_gamma_is_what_so_many_roundings_can_hide",),
    ),
    Mutation(
        name="a-sum-beyond-the-model-has-an-error-below-zero",
        file="specjax/bounds/_rounding.py",
        old='return total / (1 - total) if total < 1 else float("inf")',
        new="return total / (1 - total)",
        killers=(f"{_BOUNDS}::test_gamma_is_what_so_many_roundings_can_hide",),
    ),
    Mutation(
        name="a-power-of-two-is-the-number",
        file="specjax/bounds/_rounding.py",
        old="bits = bits >> info.nmant << info.nmant",
        new="bits = bits >> 1 << 1",
        killers=(f"{_BOUNDS}::test_the_power_of_two_below_a_number",),
    ),
    Mutation(
        name="a-root-of-zero-has-an-infinite-slope",
        file="specjax/_core/guards.py",
        old="jnp.sqrt(jnp.where(zero, 1, square))",
        new="jnp.sqrt(square)",
        killers=(
            f"{_BOUNDS}::test_the_gradient_of_the_bound_is_that_of_a_schatten_norm",
        ),
    ),
    Mutation(
        name="a-gram-matrix-loses-nothing",
        file="specjax/bounds/_gram.py",
        old="return up(scale * root(up(bound + lost))), None",
        new="return up(scale * root(up(bound))), None",
        killers=(f"{_BOUNDS}::test_what_rounding_can_hide_is_in_the_bound",),
    ),
    Mutation(
        name="a-complex-gram-matrix-loses-nothing",
        file="specjax/bounds/_gram.py",
        old="size = 1.5 * size",
        new="size = 0.0 * size",
        killers=(f"{_BOUNDS}::test_what_rounding_can_hide_is_in_the_bound",),
    ),
    Mutation(
        name="the-last-block-of-a-sum-is-left-out",
        file="specjax/bounds/_gram.py",
        old="missing = n_groups * per_group * length - len(left)",
        new="left, right = left[: len(left) // length * length], right[: len(left) "
        "// length * length]\n"
        "    missing = n_groups * per_group * length - len(left)",
        killers=(f"{_BOUNDS}::test_what_rounding_can_hide_is_in_the_bound",),
    ),
    # Closed forms.
    Mutation(
        name="aol-loses-nothing",
        file="specjax/bounds/_closed.py",
        old="return sums + 2 * gamma(n_roundings, most.dtype) * most",
        new="return sums",
        killers=(f"{_BOUNDS}::test_aol_of_many_equal_entries",),
    ),
    Mutation(
        name="a-complex-correlation-without-conj",
        file="specjax/bounds/_closed.py",
        old="_real_correlation(real, real) + _real_correlation(imag, imag),",
        new="_real_correlation(real, real) - _real_correlation(imag, imag),",
        killers=(f"{_BOUNDS}::test_the_frobenius_norm_and_aol_are_what_they_say",),
    ),
    Mutation(
        name="the-larger-of-two-row-sums",
        file="specjax/bounds/_closed.py",
        old="jnp.minimum(*map(jnp.max, rows))",
        new="jnp.maximum(*map(jnp.max, rows))",
        killers=(
            f"{_BOUNDS}::test_the_frobenius_norm_and_aol_are_what_they_say",
            f"{_CONV}::test_the_fantastic_four_and_aol_are_what_they_say",
        ),
    ),
    Mutation(
        name="a-fantastic-three",
        file="specjax/bounds/_closed.py",
        old="for n_left in range(n + 1):",
        new="for n_left in range(n):",
        killers=(
            f"{_CONV}::test_the_least_reshape_may_have_the_whole_window_on_one_side",
        ),
    ),
    Mutation(
        name="the-frobenius-norm-of-the-kernel-for-an-operator",
        file="specjax/bounds/_upper.py",
        old="bounds = up(sizes * math.prod(window) ** 0.5)",
        new="bounds = up(sizes)",
        killers=(
            f"{_CONV}::test_the_frobenius_norm_of_an_operator_is_reached_by_a_box",
        ),
    ),
    # Circular convolutions.
    Mutation(
        name="a-size-rounded-down-to-the-stride",
        file="specjax/linear_maps/_circular.py",
        old="size = -(-size // (stride * dilation)) * stride * dilation",
        new="size = max(1, size // (stride * dilation)) * stride * dilation",
        killers=(
            "tests/test_bounds_geometry.py::test_a_circle_contains_every_geometry",
            "tests/test_bounds_geometry.py::test_no_bound_is_below_the_norm",
        ),
    ),
    Mutation(
        name="a-reach-of-one-point-less",
        file="specjax/linear_maps/_circular.py",
        old="min(max(low, 0) + max(high, 0), reach - 1)",
        new="min(max(low, 0) + max(high, 0), reach - 2)",
        killers=(
            "tests/test_bounds_geometry.py::test_a_circle_contains_every_geometry",
            "tests/test_bounds_geometry.py::test_no_bound_is_below_the_norm",
        ),
    ),
    Mutation(
        name="a-grid-is-every-frequency",
        file="specjax/linear_maps/_circular.py",
        old="factor *= min(by_cosine, (1 - degree / n_classes) ** -0.5)",
        new="factor *= 1.0",
        killers=(f"{_CONV}::test_between_the_frequencies_of_the_grid",),
    ),
    Mutation(
        name="a-reflected-pixel-counts-once",
        file="specjax/linear_maps/_circular.py",
        old="return math.prod(axis.repeats for axis in axes) ** 0.5",
        new="return 1.0",
        killers=(f"{_CONV}::test_reflected_images_count_twice",),
    ),
    Mutation(
        name="what-is-cut-off-a-transposed-convolution-is-seen",
        file="specjax/linear_maps/_circular.py",
        old='whole = conv.padding in ("SAME", "VALID")',
        new="whole = True",
        killers=(
            f"{_CONV}::test_a_transposed_convolution_of_which_the_ends_are_cut_off",
        ),
    ),
    Mutation(
        name="no-two-windows-overlap-and-none-is-whole",
        file="specjax/linear_maps/_circular.py",
        old="whole = dilation == 1 and _sees_a_whole_window(words, low, high)",
        new="whole = dilation == 1",
        killers=(
            f"{_CONV}::test_windows_that_do_not_overlap_have_the_norm_of_one_that_is_whole",
        ),
    ),
    Mutation(
        name="a-circle-that-the-stride-does-not-divide",
        file="specjax/linear_maps/_circular.py",
        old="exact = size % stride == 0",
        new="exact = True",
        killers=(f"{_CONV}::test_the_norm_is_between_its_bounds",),
    ),
    Mutation(
        name="a-computed-block-is-the-true-one",
        file="specjax/bounds/_upper.py",
        old="return up(best + jnp.max(block_error(taps, axes)))",
        new="return up(best)",
        killers=(
            "tests/test_bounds_geometry.py::test_the_rounding_of_the_blocks_is_a_part_of_the_bound",
        ),
    ),
    Mutation(
        name="half-of-the-frequencies-and-one-less",
        file="specjax/bounds/_spectrum.py",
        old="counts[-1] = counts[-1] // 2 + 1",
        new="counts[-1] = (counts[-1] + 1) // 2",
        killers=(f"{_CONV}::test_the_norm_is_between_its_bounds",),
    ),
    Mutation(
        name="half-of-the-frequencies-of-a-complex-kernel",
        file="specjax/bounds/_spectrum.py",
        old="return classes(axes, half and not jnp.issubdtype("
        "kernel.dtype, jnp.complexfloating))",
        new="return classes(axes, half)",
        killers=(f"{_CONV}::test_a_complex_kernel_at_either_end_of_the_spectrum",),
    ),
    Mutation(
        name="phases-that-overflow-are-not-refused",
        file="specjax/bounds/_spectrum.py",
        old="if axis.size * axis.reach >= 2**31:",
        new="if axis.size >= 2**31:",
        killers=(f"{_CONV}::test_a_signal_too_long_for_exact_phases_is_refused",),
    ),
    Mutation(
        name="groups-of-channels-change-places",
        file="specjax/linear_maps/_conv.py",
        old=(
            "apart = kernel.reshape(math.prod(window), n_in, groups, n_out // groups)\n"
            "        taps = jnp.moveaxis(apart, 2, 0)"
        ),
        new=(
            "apart = kernel.reshape(math.prod(window), n_in, n_out // groups, groups)\n"
            "        taps = jnp.moveaxis(apart, 3, 0)"
        ),
        killers=(f"{_CONV}::test_the_norm_is_between_its_bounds",),
    ),
    Mutation(
        name="channels-of-a-transposed-kernel-as-they-lie",
        file="specjax/linear_maps/_written_out.py",
        old="return at_place.T",
        new="return at_place",
        killers=(_DENSE,),
    ),
)
