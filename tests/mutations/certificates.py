"""Mutations of what is divided by bounds, and of certificates."""

from tests.mutations.mutation import Mutation

_BOUNDS = "tests/test_bounds.py"
_CERTIFIED = "tests/test_certified.py"
_CONV = "tests/test_bounds_conv.py"
_LIPSCHITZ = "tests/test_lipschitz.py"

MUTATIONS = (
    # Division by a bound.
    Mutation(
        name="rounding-the-result-adds-nothing",
        file="specjax/bounds/_certified.py",
        old="return up(proved + _rounding(kernel, linear_map=linear_map), 8)",
        new="return up(proved, 8)",
        killers=(f"{_CERTIFIED}::test_rounding_the_result_is_part_of_the_proof",),
    ),
    Mutation(
        name="rounding-an-operator-as-a-matrix",
        file="specjax/bounds/_certified.py",
        old="ratio = math.prod(kernel.shape[: len(axes)]) ** 0.5 * repeats(axes)",
        new="ratio = 1.0",
        killers=(
            f"{_CERTIFIED}::test_rounding_a_convolution_adds_in_each_place_of_its_window",
        ),
    ),
    Mutation(
        name="entries-that-underflow-add-nothing",
        file="specjax/bounds/_certified.py",
        old=("    reached -= underflow(kernel, linear_map).astype(reached.dtype)\n"),
        new="",
        killers=(
            f"{_CERTIFIED}::test_entries_that_are_hardly_numbers_round_up_within_the_bound",
        ),
    ),
    Mutation(
        name="subnormal-numbers-are-kept-in-bfloat16",
        file="specjax/bounds/_certified.py",
        old="limits.smallest_subnormal if half else limits.tiny",
        new="limits.smallest_subnormal",
        killers=(f"{_CERTIFIED}::test_entries_that_a_backend_may_flush_to_zero",),
    ),
    # Sizes, shapes and words.
    Mutation(
        name="a-method-may-take-any-memory",
        file="specjax/bounds/_size.py",
        old="if needed <= max_bytes:",
        new="if needed <= max_bytes**2:",
        killers=(
            f"{_BOUNDS}::test_a_kernel_too_large_says_so_before_anything_is_allocated",
        ),
    ),
    Mutation(
        name="a-stack-takes-the-memory-of-one-kernel",
        file="specjax/bounds/_exact.py",
        old="needed * math.prod(linear_map.batch_shape),",
        new="needed,",
        killers=(
            f"{_BOUNDS}::test_a_kernel_too_large_says_so_before_anything_is_allocated",
        ),
    ),
    Mutation(
        name="singular-values-in-ascending-order",
        file="specjax/bounds/_exact.py",
        old="jnp.sort(values.ravel(), descending=True)",
        new="jnp.sort(values.ravel(), descending=False)",
        killers=(f"{_CONV}::test_every_singular_value",),
    ),
    Mutation(
        name="the-number-of-steps-of-lower-is-not-passed-on",
        file="specjax/bounds/_lower.py",
        old="converge(near_one, linear_map, start, krylov_dim)",
        new="converge(near_one, linear_map, start)",
        killers=(f"{_BOUNDS}::test_a_lower_bound_takes_as_many_steps_as_it_is_told",),
    ),
    Mutation(
        name="a-shard-of-the-inputs-is-a-kernel",
        file="specjax/bounds/_views.py",
        old="if split.over_x or split.over_y:",
        new="if split.over_y:",
        killers=(
            "tests/test_shard_map.py::test_what_needs_the_whole_kernel_refuses_a_shard",
        ),
    ),
    Mutation(
        name="an-operators-norm-is-labelled-a-matrix",
        file="specjax/linear_maps/_resolved.py",
        old='of: Literal["matrix", "operator"] = "operator"',
        new='of: Literal["matrix", "operator"] = "matrix"',
        killers=(f"{_CONV}::test_the_norm_is_between_its_bounds", _CONV),
    ),
    # Certificates.
    Mutation(
        name="a-root-of-a-square-may-be-too-small",
        file="specjax/certificates/_upward.py",
        old="while Fraction(found) ** 2 < square:",
        new="while False:",
        killers=(f"{_LIPSCHITZ}::test_a_root_is_never_below_the_exact_one",),
    ),
    Mutation(
        name="a-product-rounded-to-nearest",
        file="specjax/certificates/_upward.py",
        old="return nearest if nearest >= exact else math.nextafter(nearest, math.inf)",
        new="return nearest",
        killers=(
            f"{_LIPSCHITZ}::test_sums_and_products_are_never_below_the_exact_ones",
        ),
    ),
    Mutation(
        name="zero-times-unknown-is-zero",
        file="specjax/certificates/_upward.py",
        old="    factors = list(factors)\n    if math.inf in factors:\n",
        new="    factors = list(factors)\n    if math.inf in factors and 0 not in factors:\n",
        killers=(
            f"{_LIPSCHITZ}::test_a_zero_kernel_and_an_unknown_function_have_no_finite_product",
        ),
    ),
    Mutation(
        name="a-residual-is-a-product",
        file="specjax/certificates/_chain.py",
        old="constant = total(factor.constant for factor in inner)",
        new="constant = product(factor.constant for factor in inner)",
        killers=(
            f"{_LIPSCHITZ}::test_a_random_network_against_gradient_ascent",
            f"{_LIPSCHITZ}::test_the_factors_make_the_value",
        ),
    ),
    Mutation(
        name="a-repeat-takes-the-first-slice-each-time",
        file="specjax/certificates/_chain.py",
        old="factors, shape = walk(part.parts, shape, network, i)",
        new="factors, shape = walk(part.parts, shape, network, 0)",
        killers=(
            f"{_LIPSCHITZ}::test_layers_one_after_another_as_a_scan_applies_them",
        ),
    ),
    Mutation(
        name="a-bound-that-is-not-a-number-is-one",
        file="specjax/certificates/_chain.py",
        old="return math.inf if math.isnan(number) else number",
        new="return number",
        killers=(
            f"{_LIPSCHITZ}::test_a_kernel_that_is_not_finite_has_no_constant",
            f"{_LIPSCHITZ}::test_a_claim_is_listed_as_one",
            _LIPSCHITZ,
        ),
    ),
    Mutation(
        name="a-sum-that-broadcasts-is-allowed",
        file="specjax/certificates/_chain.py",
        old="if None not in shapes and shapes[0] != shapes[1]:",
        new="if None not in shapes and len(shapes[0]) != len(shapes[1]):",
        killers=(f"{_LIPSCHITZ}::test_parts_that_do_not_fit_each_other",),
    ),
    Mutation(
        name="an-operator-takes-any-leading-axes",
        file="specjax/certificates/_chain.py",
        old="if rest < 0 or (whole and rest) or shape[rest:] != before:",
        new="if rest < 0 or shape[rest:] != before:",
        killers=(f"{_LIPSCHITZ}::test_parts_that_do_not_fit_each_other",),
    ),
    Mutation(
        name="the-slope-of-elu-is-one",
        file="specjax/certificates/_activations.py",
        old='return Slope(_one_or(alpha), "f\' is alpha e^x below 0: max(1, |alpha|)")',
        new='return Slope(1.0, "f\' is alpha e^x below 0: max(1, |alpha|)")',
        killers=(
            f"{_LIPSCHITZ}::test_the_constant_is_the_steepest_slope_on_a_dense_grid",
        ),
    ),
    Mutation(
        name="the-two-forms-of-gelu-change-places",
        file="specjax/certificates/_activations.py",
        old="    if approximate:\n",
        new="    if not approximate:\n",
        killers=(
            f"{_LIPSCHITZ}::test_the_constants_of_smooth_functions_against_autodiff_at_their_maximum",
            f"{_LIPSCHITZ}::test_the_constant_is_the_steepest_slope_on_a_dense_grid",
        ),
    ),
    Mutation(
        name="arguments-of-a-partial-are-ignored",
        file="specjax/certificates/_activations.py",
        old="        if function.args:\n            return None\n",
        new="",
        killers=(f"{_LIPSCHITZ}::test_what_is_not_in_the_table_is_named_and_infinite",),
    ),
    Mutation(
        name="a-pixel-is-in-window-over-step-windows-rounded-down",
        file="specjax/certificates/_pools.py",
        old="return math.prod(-(-window // step) for window, step in pairs)",
        new="return math.prod(max(1, window // step) for window, step in pairs)",
        killers=(
            f"{_LIPSCHITZ}::test_the_maximum_of_a_window_against_pairs_of_images",
        ),
    ),
    Mutation(
        name="windows-overlap-on-one-side",
        file="specjax/certificates/_pools.py",
        old="counts *= window + 2 * sum(range(window - step, 0, -step))",
        new="counts *= window + sum(range(window - step, 0, -step))",
        killers=(
            f"{_LIPSCHITZ}::test_the_mean_of_a_window_against_its_dense_operator",
        ),
    ),
    Mutation(
        name="padding-is-never-in-the-mean",
        file="specjax/certificates/_pools.py",
        old='if self.count_include_pad or self.padding == "VALID":',
        new="if True:",
        killers=(
            f"{_LIPSCHITZ}::test_the_mean_of_a_window_against_its_dense_operator",
        ),
    ),
    Mutation(
        name="a-printed-constant-is-rounded-to-nearest",
        file="specjax/certificates/_certificate.py",
        old="_DIGITS = Context(prec=6, rounding=ROUND_CEILING)",
        new="_DIGITS = Context(prec=6)",
        killers=(f"{_LIPSCHITZ}::test_printed_numbers_are_rounded_up",),
    ),
    Mutation(
        name="a-layer-may-be-forgotten",
        file="specjax/certificates/_named_layers.py",
        old="forgotten = [path for path in leaves if path not in used]",
        new="forgotten = []",
        killers=(
            f"{_LIPSCHITZ}::test_a_name_that_does_not_exist_and_a_layer_that_is_forgotten",
        ),
    ),
    Mutation(
        name="a-lower-bound-will-do-for-a-kernel",
        file="specjax/certificates/_lipschitz.py",
        old='if norm.kind != "upper":',
        new='if norm.kind == "lower":',
        killers=(
            f"{_LIPSCHITZ}::test_another_method_for_the_kernels_must_be_an_upper_bound",
        ),
    ),
)
