"""Mutations of what is a kernel, what is carried, and where it lies."""

from tests.mutations.mutation import Mutation

_CONTRACT = "tests/test_contract.py"
_KERNELS = "tests/test_kernels.py"
_MESSAGES = "tests/test_messages.py"
_SHARD_MAP = "tests/test_shard_map.py"

MUTATIONS = (
    # State, rules, options.
    Mutation(
        name="a-state-of-another-dtype-fits",
        file="specjax/_core/state.py",
        old='getattr(held, "shape", None) == need.shape and held.dtype == need.dtype',
        new='getattr(held, "shape", None) == need.shape',
        killers=(f"{_MESSAGES}::test_a_state_that_does_not_fit_names_every_path",),
    ),
    Mutation(
        name="the-state-of-vectors-is-narrow",
        file="specjax/_core/vectors.py",
        old="return jnp.dtype(jnp.float32) if narrow else jnp.dtype(dtype)",
        new="return jnp.dtype(dtype)",
        killers=(f"{_CONTRACT}::test_n8_result_in_the_kernels_dtype_state_in_float32",),
    ),
    Mutation(
        name="a-stack-of-remat-scan-is-guessed",
        file="specjax/kernels/_rules.py",
        old="if rank not in ranks or shared or unknown:",
        new="if rank not in ranks or shared:",
        killers=(f"{_MESSAGES}::test_an_undecided_kernel_says_what_to_pass",),
    ),
    Mutation(
        name="a-shared-kernel-is-guessed",
        file="specjax/kernels/_rules.py",
        old="if rank not in ranks or shared or unknown:",
        new="if rank not in ranks or unknown:",
        killers=(f"{_MESSAGES}::test_an_undecided_kernel_says_what_to_pass",),
    ),
    Mutation(
        name="a-pattern-matches-the-beginning",
        file="specjax/kernels/_rules.py",
        old="matches = (value for p, value in patterns if p.fullmatch(join(path)))",
        new="matches = (value for p, value in patterns if p.match(join(path)))",
        killers=(f"{_KERNELS}::test_first_match_of_a_mapping_wins_and_must_be_full",),
    ),
    Mutation(
        name="scan-anywhere-in-a-name-is-a-stack",
        file="specjax/kernels/_rules.py",
        old="len(_STACKING.findall(name[: lifted.end() + 1]))",
        new="len(_STACKING.findall(name))",
        killers=(
            f"{_KERNELS}::test_scan_or_vmap_inside_of_a_users_own_name_is_no_stack",
        ),
    ),
    Mutation(
        name="value-is-read-as-out",
        file="specjax/kernels/_rules.py",
        old='module in ("query", "key", "value")',
        new='module in ("query", "key")',
        killers=(f"{_KERNELS}::test_flax_kernels",),
    ),
    Mutation(
        name="integers-are-kernels",
        file="specjax/kernels/_rules.py",
        old="elif not jnp.issubdtype(leaf.dtype, jnp.inexact):",
        new="elif not jnp.issubdtype(leaf.dtype, jnp.number):",
        killers=(f"{_MESSAGES}::test_kinds_are_type_errors",),
    ),
    Mutation(
        name="only-the-first-bad-leaf-is-named",
        file="specjax/errors.py",
        old='raise error("\\n".join(messages))',
        new="raise error(messages[0])",
        killers=(f"{_MESSAGES}::test_every_bad_leaf_is_in_one_message",),
    ),
    Mutation(
        name="a-bound-of-zero-is-allowed",
        file="specjax/_options.py",
        old='"a number above 0", lambda x: 0 < x < math.inf)',
        new='"a number above 0", lambda x: 0 <= x < math.inf)',
        killers=(f"{_MESSAGES}::test_bound_out_of_range",),
    ),
    Mutation(
        name="an-infinite-bound-is-allowed",
        file="specjax/_options.py",
        old='"a number above 0", lambda x: 0 < x < math.inf)',
        new='"a number above 0", lambda x: 0 < x)',
        killers=(f"{_MESSAGES}::test_bound_out_of_range",),
    ),
    Mutation(
        name="a-bool-is-a-number-of-steps",
        file="specjax/_options.py",
        old="if isinstance(value, bool) or not isinstance(value, numbers.Integral):",
        new="if not isinstance(value, numbers.Integral):",
        killers=(f"{_MESSAGES}::test_options_that_must_be_static",),
    ),
    Mutation(
        name="two-leaves-of-one-name-are-one",
        file="specjax/_tree.py",
        old="if len(named) < len(leaves):",
        new="if len(named) < 0:",
        killers=(f"{_MESSAGES}::test_two_leaves_of_one_name",),
    ),
    Mutation(
        name="the-box-of-nnx-has-a-name-of-its-own",
        file="specjax/_tree.py",
        old='_BOXED = ("value", "raw_value")',
        new='_BOXED = ("value",)',
        killers=(f"{_KERNELS}::test_a_leaf_in_a_box_has_the_path_of_the_box",),
    ),
    # Presets.
    Mutation(
        name="a-transposed-convolution-of-haiku-as-a-plain-one",
        file="specjax/kernels/_presets.py",
        old="out_axis=-2 if transposed else -1",
        new="out_axis=-1",
        killers=(f"{_KERNELS}::test_haiku_presets_by_svd",),
    ),
    Mutation(
        name="the-second-conv1d-of-haiku-is-undecided",
        file="specjax/kernels/_presets.py",
        old=r'r".*conv1_d(_transpose)?(_\d+)?"',
        new=r'r".*conv1_d(_transpose)?"',
        killers=(f"{_KERNELS}::test_haiku_presets_by_svd",),
    ),
    Mutation(
        name="a-stack-of-equinox-has-its-outputs-in-front",
        file="specjax/kernels/_presets.py",
        old="return Matrix(out_axis=n_stacks, batch_axis=tuple(range(n_stacks)))",
        new="return Matrix(out_axis=-2, batch_axis=tuple(range(n_stacks)))",
        killers=(f"{_KERNELS}::test_equinox_preset_by_svd",),
    ),
    Mutation(
        name="a-subclass-of-an-equinox-layer-is-unknown",
        file="specjax/kernels/_presets.py",
        old="for ancestor in type(node).__mro__:",
        new="for ancestor in type(node).__mro__[:1]:",
        killers=(f"{_KERNELS}::test_equinox_preset_by_svd",),
    ),
    # Shards.
    Mutation(
        name="a-spec-of-all-params-is-not-found",
        file="specjax/kernels/_sharded.py",
        old="for length in range(len(path), -1, -1):",
        new="for length in range(len(path), 0, -1):",
        killers=(
            f"{_SHARD_MAP}::test_specs_of_the_state_are_those_of_the_output_axes",
        ),
    ),
    Mutation(
        name="sigma-of-a-split-stack-is-whole",
        file="specjax/kernels/_sharded.py",
        old="sigma = PartitionSpec(*names[: len(linear_map.batch_axis)])",
        new="sigma = PartitionSpec()",
        killers=(
            f"{_SHARD_MAP}::test_specs_of_the_state_are_those_of_the_output_axes",
        ),
    ),
    Mutation(
        name="a-spec-may-leave-out-an-axis",
        file="specjax/linear_maps/_check_spec.py",
        old="if varies - named:",
        new="if varies and not named:",
        killers=(f"{_SHARD_MAP}::test_a_spec_that_leaves_out_an_axis_is_refused",),
    ),
    Mutation(
        name="a-spec-may-name-an-axis-twice",
        file="specjax/linear_maps/_check_spec.py",
        old="if len(set(names)) < len(names):",
        new="if len(set(names)) < 0:",
        killers=(f"{_SHARD_MAP}::test_a_spec_that_is_none_is_refused",),
    ),
    Mutation(
        name="sigma-may-differ-where-the-kernel-does-not",
        file="specjax/linear_maps/_check_spec.py",
        old='own = {"u": split.over_y, "u2": split.over_y, "v": split.over_x}',
        new='own = {"u": split.over_y, "u2": split.over_y, "v": split.over_x, "sigma": split.over_y}',
        killers=(
            f"{_SHARD_MAP}::test_a_sigma_that_differs_between_shards_of_one_kernel_is_refused",
        ),
    ),
)
