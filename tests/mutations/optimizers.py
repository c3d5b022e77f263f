"""Mutations of the links of an optax chain."""

from tests.mutations.mutation import Mutation

_OPTAX = "tests/test_optax.py"
_SETS = "tests/constraints/test_optax.py"

MUTATIONS = (
    Mutation(
        name="an-update-of-no-kernel-becomes-a-difference",
        file="specjax/optax/_difference.py",
        old="if update is None or target is after:",
        new="if update is None:",
        killers=(
            f"{_OPTAX}::test_what_is_no_kernel_has_the_inner_optimizers_update_bit_for_bit",
        ),
    ),
    Mutation(
        name="an-update-in-the-dtype-of-the-params",
        file="specjax/optax/_difference.py",
        old="return (target - before).astype(update.dtype)",
        new="return target - before",
        killers=(f"{_OPTAX}::test_updates_have_the_dtype_of_the_gradients",),
    ),
    Mutation(
        name="an-update-from-after-the-step",
        file="specjax/optax/_difference.py",
        old="return (target - before).astype(update.dtype)",
        new="return (target - after).astype(update.dtype)",
        killers=(
            f"{_OPTAX}::test_alone_it_projects",
            f"{_OPTAX}::test_update_is_that_of_the_inner_one_and_then_on_the_bound",
        ),
    ),
    Mutation(
        name="an-optimizer-carries-its-first-state",
        file="specjax/optax/_renormalize.py",
        old="return updates, KeepSpectralNormState(carried)",
        new="return updates, KeepSpectralNormState(state.power_iteration)",
        killers=(f"{_OPTAX}::test_the_state_is_carried_from_update_to_update",),
    ),
    Mutation(
        name="an-optimizer-drops-its-cap",
        file="specjax/optax/_renormalize.py",
        old="keep = keep_spectral_norm(kernels=kernels, bound=bound, cap=cap, n_steps=n_steps)",
        new="keep = keep_spectral_norm(kernels=kernels, bound=bound, n_steps=n_steps)",
        killers=(
            f"{_OPTAX}::test_update_is_that_of_the_inner_one_and_then_on_the_bound",
        ),
    ),
    Mutation(
        name="an-optimizer-drops-its-steps",
        file="specjax/optax/_renormalize.py",
        old="n_steps=1 if n_steps is None else n_steps,",
        new="n_steps=1,",
        killers=(f"{_OPTAX}::test_steps_are_those_of_each_update",),
    ),
    Mutation(
        name="a-projection-may-change-a-dtype",
        file="specjax/optax/_project.py",
        old="(old.shape, old.dtype) != (new.shape, new.dtype)",
        new="old.shape != new.shape",
        killers=(f"{_SETS}::test_errors",),
    ),
    Mutation(
        name="a-projection-drops-its-options",
        file="specjax/optax/_project.py",
        old="return projection(params, **options)",
        new="return projection(params)",
        killers=(f"{_SETS}::test_the_params_after_the_update_are_projected",),
    ),
    Mutation(
        name="clipping-on-one-side",
        file="specjax/optax/_clip.py",
        old="least = {path: -high for path, high in most.items()}",
        new="least = {path: -100 * high for path, high in most.items()}",
        killers=(f"{_SETS}::test_clipping_is_optax_box",),
    ),
    Mutation(
        name="complex-kernels-may-be-clipped",
        file="specjax/optax/_clip.py",
        old="if not jnp.issubdtype(leaf.dtype, jnp.floating)",
        new="if not jnp.issubdtype(leaf.dtype, jnp.inexact)",
        killers=(f"{_SETS}::test_errors",),
    ),
)
