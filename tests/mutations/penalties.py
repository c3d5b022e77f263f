"""Mutations of penalties, losses and activations."""

from tests.mutations.mutation import Mutation

_LOSSES = "tests/gan/test_losses.py"
_ON_A_MESH = "tests/constraints/test_on_a_mesh.py"
_PENALTY = "tests/gan/test_gradient_penalty.py"
_REGULARIZERS = "tests/constraints/test_regularizers.py"
_SORT = "tests/test_activations.py"

MUTATIONS = (
    Mutation(
        name="inner-products-without-conj",
        file="specjax/constraints/_orthogonal.py",
        old="        jnp.conj(wide),\n",
        new="        wide,\n",
        killers=(f"{_REGULARIZERS}::test_orthogonal_dtypes", _REGULARIZERS),
    ),
    Mutation(
        name="all-lengths-are-penalized",
        file="specjax/constraints/_orthogonal.py",
        old='gram * (1 - diagonal) if form == "off_diagonal" else gram - diagonal',
        new="gram - diagonal",
        killers=(f"{_REGULARIZERS}::test_orthogonal_penalty_is_that_of_the_matrices",),
    ),
    Mutation(
        name="units-that-are-split-are-not-refused",
        file="specjax/constraints/_orthogonal.py",
        old=("        if linear_map.one.split.over_y\n"),
        new=("        if linear_map.one.split.over_y and not path\n"),
        killers=(f"{_ON_A_MESH}::test_outputs_split_by_hand_have_no_inner_products",),
    ),
    Mutation(
        name="a-penalty-of-a-bad-kernel-keeps-its-sigma",
        file="specjax/constraints/_spectral_penalty.py",
        old="kept = last_finite(new, carried.sigma)",
        new="kept = new",
        killers=(
            f"{_REGULARIZERS}::test_spectral_penalty_of_zero_and_what_is_not_finite",
        ),
    ),
    Mutation(
        name="a-penalty-in-evaluation-takes-a-step",
        file="specjax/constraints/_spectral_penalty.py",
        old="steps = n_steps if update_stats else 0",
        new="steps = n_steps",
        killers=(f"{_REGULARIZERS}::test_u_is_carried_and_follows_the_weights",),
    ),
    Mutation(
        name="slices-on-other-devices-are-left-out",
        file="specjax/constraints/_over_stack.py",
        old="return total(values, over)",
        new="return total(values, over[:0])",
        killers=(f"{_ON_A_MESH}::test_penalties_by_hand",),
    ),
    Mutation(
        name="one-weight-for-a-batch-of-pairs",
        file="specjax/gan/_gradient_penalty.py",
        old="shape = (len(real), *(1 for _ in real.shape[1:]))",
        new="shape = ()",
        killers=(f"{_PENALTY}::test_between_is_on_the_line_of_each_pair",),
    ),
    Mutation(
        name="a-penalty-on-both-sides",
        file="specjax/gan/_gradient_penalty.py",
        old="jnp.maximum(excess, 0) if one_sided else excess",
        new="jnp.minimum(excess, 0) if one_sided else excess",
        killers=(f"{_PENALTY}::test_closed_forms_of_a_quadratic_critic",),
    ),
    Mutation(
        name="squares-of-gradients-in-half-precision",
        file="specjax/gan/_gradient_penalty.py",
        old="wide = gradient.astype(vector_dtype(gradient.dtype))",
        new="wide = gradient",
        killers=(f"{_PENALTY}::test_half_precision_is_summed_in_float32",),
    ),
    Mutation(
        name="points-are-drawn-in-half-precision",
        file="specjax/gan/_gradient_penalty.py",
        old="weight = jax.random.uniform(key, shape, vector_dtype(real.dtype))",
        new="weight = jax.random.uniform(key, shape, real.dtype)",
        killers=(f"{_PENALTY}::test_half_precision_is_summed_in_float32",),
    ),
    Mutation(
        name="a-root-without-its-guard",
        file="specjax/_core/guards.py",
        old="jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))",
        new="jnp.where(zero, 0, jnp.sqrt(square))",
        killers=(f"{_PENALTY}::test_a_gradient_of_zero_has_finite_derivatives",),
    ),
    Mutation(
        name="real-and-fake-change-places",
        file="specjax/gan/_losses.py",
        old='return jnp.mean(_wide("fake", fake)) - jnp.mean(_wide("real", real))',
        new='return jnp.mean(_wide("real", real)) - jnp.mean(_wide("fake", fake))',
        killers=(f"{_LOSSES}::test_values_and_slopes",),
    ),
    Mutation(
        name="scores-in-half-precision",
        file="specjax/gan/_losses.py",
        old="return scores.astype(vector_dtype(scores.dtype))",
        new="return scores",
        killers=(f"{_LOSSES}::test_half_precision_scores_are_summed_in_float32",),
    ),
    Mutation(
        name="a-tie-of-two-is-turned",
        file="specjax/activations.py",
        old="pair = jnp.where(swap, second, first), jnp.where(swap, first, second)",
        new="pair = jnp.maximum(first, second), jnp.minimum(first, second)",
        killers=(f"{_SORT}::test_the_jacobian_is_a_permutation_ties_included",),
    ),
    Mutation(
        name="an-axis-from-the-end-is-one-off",
        file="specjax/activations.py",
        old="    axis %= ndim\n",
        new="    axis = axis + ndim - 1 if axis < -1 else axis % ndim\n",
        killers=(f"{_SORT}::test_every_group_is_sorted",),
    ),
)
