"""Mutations of metrics, reports, pictures, and assertions for users."""

from tests.mutations.mutation import Mutation

_METRICS = "tests/test_metrics.py"
_PLOTTING = "tests/test_plotting.py"
_REPORT = "tests/test_report.py"
_TESTING = "tests/test_testing.py"

MUTATIONS = (
    # Metrics.
    Mutation(
        name="metrics-have-a-derivative",
        file="specjax/diagnostics/_metrics.py",
        old="    kernel = lax.stop_gradient(kernel)\n",
        new="",
        killers=(f"{_METRICS}::test_no_derivative_and_one_program_in_a_loop",),
    ),
    Mutation(
        name="metrics-take-a-step",
        file="specjax/diagnostics/_metrics.py",
        old="linear_map, n_steps=0)",
        new="linear_map, n_steps=1)",
        killers=(f"{_METRICS}::test_sigma_is_what_evaluation_divides_by",),
    ),
    Mutation(
        name="a-blind-state-has-no-residual",
        file="specjax/diagnostics/_metrics.py",
        old="jnp.where(sigma > 0, value, jnp.inf)",
        new="value",
        killers=(f"{_METRICS}::test_zero_blind_and_not_finite_kernels",),
    ),
    Mutation(
        name="a-residual-without-sigma",
        file="specjax/diagnostics/_metrics.py",
        old="jnp.square(jnp.abs(product - sigma.astype(u.dtype) * u))",
        new="jnp.square(jnp.abs(product) - sigma * jnp.abs(u))",
        killers=(f"{_METRICS}::test_numbers_are_those_of_float64",),
    ),
    Mutation(
        name="a-circular-convolution-holds-each-entry-once",
        file="specjax/linear_maps/_tap_counts.py",
        old="if conv.pads_zeros:",
        new='if conv.padding != "REFLECT":',
        killers=(f"{_METRICS}::test_taps_of_a_window_beyond_the_image_meet_one_pixel",),
    ),
    Mutation(
        name="a-transposed-convolution-looks-forward",
        file="specjax/linear_maps/_tap_counts.py",
        old="(adjoint, len(outputs)) if conv.transposed else",
        new="(apply, len(pixels)) if conv.transposed else",
        killers=(
            f"{_METRICS}::test_taps_of_a_window_beyond_the_image_meet_one_pixel",
            f"{_METRICS}::test_frobenius_norm_is_the_operators",
        ),
        equivalent="By one tap a pixel of the output of a transposed convolution meets at "
        "most one of the input, folded or not: both ways the same pairs are counted.",
    ),
    Mutation(
        name="squares-of-a-complex-operator-without-conj",
        file="specjax/linear_maps/_tap_counts.py",
        old="return (jnp.conj(kernel) * mixed).real",
        new="return (kernel * mixed).real",
        killers=(f"{_METRICS}::test_taps_of_a_window_beyond_the_image_meet_one_pixel",),
    ),
    # The report.
    Mutation(
        name="float64-is-measured-in-float32",
        file="specjax/diagnostics/_row.py",
        old="if leaf.dtype.itemsize > 4 * (1 + np.iscomplexobj(leaf)):",
        new="if leaf.dtype.itemsize > 8 * (1 + np.iscomplexobj(leaf)):",
        killers=(f"{_REPORT}::test_a_kernel_in_double_precision_is_measured_in_it",),
    ),
    Mutation(
        name="complex128-is-measured-in-complex64",
        file="specjax/diagnostics/_row.py",
        old="if leaf.dtype.itemsize > 4 * (1 + np.iscomplexobj(leaf)):",
        new="if leaf.dtype == np.float64:",
        killers=(f"{_REPORT}::test_a_complex_kernel_is_measured_in_its_own_precision",),
    ),
    Mutation(
        name="the-stable-rank-of-zero-is-not-a-number",
        file="specjax/diagnostics/_row.py",
        old="return np.where(np.asarray(size) == 0, 0.0, _ratio(size, largest) ** 2)",
        new="return _ratio(size, largest) ** 2",
        killers=(f"{_REPORT}::test_zero_singular_and_narrow_kernels",),
    ),
    Mutation(
        name="the-condition-is-that-of-the-second-value",
        file="specjax/diagnostics/_row.py",
        old="condition_number=_ratio(largest, values[..., -1]),",
        new="condition_number=_ratio(largest, values[..., 1]),",
        killers=(f"{_REPORT}::test_numbers_are_those_of_the_float64_svd",),
    ),
    Mutation(
        name="an-upper-bound-is-printed-to-nearest",
        file="specjax/diagnostics/_table.py",
        old="(decimal.ROUND_FLOOR, nearest, decimal.ROUND_CEILING, nearest, nearest)",
        new="(decimal.ROUND_FLOOR, nearest, nearest, nearest, nearest)",
        killers=(f"{_REPORT}::test_the_table_rounds_bounds_away_from_the_norm",),
    ),
    Mutation(
        name="a-lower-bound-is-printed-to-nearest",
        file="specjax/diagnostics/_table.py",
        old="(decimal.ROUND_FLOOR, nearest, decimal.ROUND_CEILING, nearest, nearest)",
        new="(nearest, nearest, decimal.ROUND_CEILING, nearest, nearest)",
        killers=(f"{_REPORT}::test_the_table_rounds_bounds_away_from_the_norm",),
    ),
    Mutation(
        name="a-bound-on-the-stable-rank-is-printed-as-it",
        file="specjax/diagnostics/_table.py",
        old="if row.exact is None and row.stable_rank is not None:",
        new="if False:",
        killers=(f"{_REPORT}::test_the_table_explains_itself",),
    ),
    Mutation(
        name="eight-slices-are-too-many",
        file="specjax/diagnostics/_table.py",
        old="if len(slices) > _MAX_SLICES:",
        new="if len(slices) >= _MAX_SLICES:",
        killers=(
            f"{_REPORT}::test_eight_slices_have_a_line_each_and_nine_one_together",
        ),
    ),
    Mutation(
        name="a-line-of-many-slices-has-the-smallest-twice",
        file="specjax/diagnostics/_table.py",
        old="for n in (numbers[0], numbers[-1]))",
        new="for n in (numbers[0], numbers[0]))",
        killers=(f"{_REPORT}::test_the_table_shows_what_is_not_finite",),
    ),
    Mutation(
        name="strides-are-not-in-words",
        file="specjax/linear_maps/_conv.py",
        old='suffix = "" if strides == [1] else',
        new='suffix = "" if strides else',
        killers=(f"{_REPORT}::test_maps_in_words",),
    ),
    Mutation(
        name="a-slice-in-brackets-is-a-style",
        file="specjax/diagnostics/_table.py",
        old="grid.add_row(*map(Text, line))",
        new="grid.add_row(*line)",
        killers=(f"{_REPORT}::test_the_table_shows_what_is_not_finite",),
    ),
    Mutation(
        name="infinity-is-a-number-of-json",
        file="specjax/diagnostics/_report.py",
        old="return number if math.isfinite(number) else str(number)",
        new="return number",
        killers=(f"{_REPORT}::test_plain_dict_is_json_of_every_number",),
    ),
    Mutation(
        name="an-undecided-kernel-is-not-in-the-dict",
        file="specjax/diagnostics/_report.py",
        old='return {"kernels": rows, "undecided": dict(self.undecided)}',
        new='return {"kernels": rows, "undecided": {}}',
        killers=(f"{_REPORT}::test_plain_dict_is_json_of_every_number",),
    ),
    # Pictures.
    Mutation(
        name="an-error-bar-without-its-root-of-two",
        file="specjax/plotting.py",
        old="np.where(np.isfinite(residual), values * residual, 0) / math.sqrt(2)",
        new="np.where(np.isfinite(residual), values * residual, 0)",
        killers=(f"{_PLOTTING}::test_history_of_sigma_has_its_error_bar",),
    ),
    Mutation(
        name="a-residual-without-end-is-drawn",
        file="specjax/plotting.py",
        old="np.where(np.isfinite(residual), values * residual, 0) / math.sqrt(2)",
        new="values * residual / math.sqrt(2)",
        killers=(f"{_PLOTTING}::test_a_state_that_is_blind_has_no_error_bar",),
    ),
    Mutation(
        name="the-smallest-value-is-in-color",
        file="specjax/plotting.py",
        old="values.max(axis=1)",
        new="values.min(axis=1)",
        killers=(f"{_PLOTTING}::test_history_of_spectra",),
    ),
    Mutation(
        name="labels-may-be-too-few",
        file="specjax/plotting.py",
        old="if labels and len(labels) != len(reports):",
        new="if labels and len(labels) > len(reports):",
        killers=(f"{_PLOTTING}::test_nonsense_says_what_is_needed",),
    ),
    Mutation(
        name="an-axis-starts-at-the-smallest-value",
        file="specjax/plotting.py",
        old="axes.set_ylim(0, 1.1 * axes.dataLim.y1)",
        new="axes.set_ylim(axes.dataLim.y0, 1.1 * axes.dataLim.y1)",
        killers=(f"{_PLOTTING}::test_lines_are_the_singular_values",),
    ),
    Mutation(
        name="singular-values-are-counted-from-zero",
        file="specjax/plotting.py",
        old="index = np.arange(1, n_values + 1)",
        new="index = np.arange(n_values)",
        killers=(f"{_PLOTTING}::test_lines_are_the_singular_values",),
    ),
    Mutation(
        name="only-the-first-kernels-of-a-report-are-drawn",
        file="specjax/plotting.py",
        old="n_rows = math.ceil(len(paths) / n_columns)",
        new="n_rows = max(1, len(paths) // n_columns)",
        killers=(f"{_PLOTTING}::test_lines_are_the_singular_values",),
    ),
    Mutation(
        name="panels-without-a-kernel-have-axes",
        file="specjax/plotting.py",
        old="        axes.set_axis_off()\n",
        new="        pass\n",
        killers=(f"{_PLOTTING}::test_lines_are_the_singular_values",),
    ),
    # Assertions for users.
    Mutation(
        name="a-norm-that-is-not-a-number-is-at-most-one",
        file="specjax/testing.py",
        old="if at_most is not None and not np.all(norms <= at_most * (1 + rtol)):",
        new="if at_most is not None and np.any(norms > at_most * (1 + rtol)):",
        killers=(f"{_TESTING}::test_kernel_that_is_not_finite_fails",),
    ),
    Mutation(
        name="small-norms-are-equal",
        file="specjax/testing.py",
        old="np.allclose(norms, equal_to, rtol=rtol, atol=0)",
        new="np.allclose(norms, equal_to, rtol=rtol)",
        killers=(f"{_TESTING}::test_the_tolerance_is_relative",),
    ),
    Mutation(
        name="a-tolerance-is-absolute",
        file="specjax/testing.py",
        old="norms <= at_most * (1 + rtol)",
        new="norms <= at_most + rtol",
        killers=(f"{_TESTING}::test_the_tolerance_is_relative",),
    ),
    Mutation(
        name="a-weak-type-is-a-fixed-point",
        file="specjax/testing.py",
        old="    if types[0] != types[1]:\n",
        new="    if False:\n",
        killers=(f"{_TESTING}::test_fixed_point",),
    ),
    Mutation(
        name="another-dtype-of-a-kernel-does-not-differ",
        file="specjax/testing.py",
        old="    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)\n"
        "    selected",
        new="    selected",
        killers=(f"{_TESTING}::test_only_kernels_differ",),
    ),
    Mutation(
        name="inputs-and-outputs-in-the-kernels-order",
        file="specjax/testing.py",
        old="order = [len(batch) + axis for side in one.matrix_axes for axis in side]",
        new=(
            "order = [len(batch) + axis for side in one.matrix_axes for axis in side]\n"
            "    order.sort()"
        ),
        killers=(f"{_TESTING}::test_norm_of_the_sides_that_the_rule_names",),
    ),
)
