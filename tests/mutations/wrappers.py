"""Mutations of the wrappers of Linen and NNX."""

from tests.mutations.mutation import Mutation

_CONV = "tests/test_conv.py"
_LINEN = "tests/test_linen.py"
_NETWORK = "tests/test_scaled_network.py"
_NNX = "tests/test_nnx.py"
_SCALED = "tests/test_scaled_output.py"

MUTATIONS = (
    # Linen.
    Mutation(
        name="linen-takes-a-step-in-each-call",
        file="specjax/linen.py",
        old="applied = (self._once() if update else _call)(apply, params, state)",
        new="applied = _call(apply, params, state)",
        killers=(f"{_LINEN}::test_layer_called_twice_is_normalized_once",),
    ),
    Mutation(
        name="linen-sorts-a-mapping",
        file="specjax/linen.py",
        old='object.__setattr__(self, "kernels", as_rule(self.kernels))',
        new="pass",
        killers=(f"{_LINEN}::test_first_match_wins_under_a_transformation_too",),
    ),
    Mutation(
        name="linen-never-updates-unless-told",
        file="specjax/linen.py",
        old="return mutable if update_stats is None else bool(update_stats)",
        new="return bool(update_stats)",
        killers=(f"{_LINEN}::test_one_power_step_when_the_collection_is_mutable",),
    ),
    Mutation(
        name="linen-updates-against-the-callers-word",
        file="specjax/linen.py",
        old="return mutable if update_stats is None else bool(update_stats)",
        new="return mutable",
        killers=(f"{_LINEN}::test_evaluation_uses_u_as_it_is", _LINEN),
    ),
    Mutation(
        name="linen-drops-grad-sigma",
        file="specjax/linen.py",
        old="            grad_sigma=self.grad_sigma,\n",
        new="            grad_sigma=True,\n",
        killers=(f"{_LINEN}::test_grad_sigma",),
    ),
    Mutation(
        name="linen-writes-to-batch-stats-only",
        file="specjax/linen.py",
        old="self.put_variable(self.collection_name, name, entry)",
        new='self.put_variable("batch_stats", name, entry)',
        killers=(f"{_LINEN}::test_collection_name",),
    ),
    Mutation(
        name="linen-reads-a-transposed-kernel-as-a-plain-one",
        file="specjax/_flax_layers.py",
        old="Matrix(out_axis=-2 if layer.transpose_kernel else -1)",
        new="Matrix(out_axis=-1)",
        killers=(f"{_LINEN}::test_layer_runs_with_kernels_of_norm_one", _LINEN),
    ),
    Mutation(
        name="linen-counts-no-batch-axes-of-a-dense-general",
        file="specjax/_flax_layers.py",
        old="len(layer.batch_dims), _length(layer.axis)",
        new="0, _length(layer.axis)",
        killers=(f"{_LINEN}::test_layer_runs_with_kernels_of_norm_one",),
        equivalent="A DenseGeneral has its batch axes in front, and what is in front of a "
        "layer's own axes is a batch axis in any case: both ways it is the same Matrix.",
    ),
    Mutation(
        name="an-attribute-stays-after-the-call",
        file="specjax/linen.py",
        old="        object.__setattr__(layer, word, before)\n",
        new="        pass\n",
        killers=(
            f"{_NETWORK}::test_a_layer_that_is_called_twice",
            f"{_SCALED}::test_two_sizes_of_input_in_one_pass_meet_one_kernel",
        ),
        equivalent="The module is a bound copy that lives for one forward pass, in which "
        "its kernel is one array: a second call of it meets the product of the same factor.",
    ),
    # NNX.
    Mutation(
        name="nnx-takes-a-step-in-each-call",
        file="specjax/nnx.py",
        old="apply = functools.partial(_ONCE.setdefault(self, Once()), apply)",
        new="pass",
        killers=(f"{_NNX}::test_layer_called_twice_is_normalized_once",),
    ),
    Mutation(
        name="nnx-starts-in-the-other-mode",
        file="specjax/nnx.py",
        old="self.use_running_average: bool = not update_stats",
        new="self.use_running_average: bool = update_stats",
        killers=(f"{_NNX}::test_update_stats_of_the_call_and_of_the_constructor",),
    ),
    Mutation(
        name="nnx-keeps-no-state",
        file="specjax/nnx.py",
        old="    variable[...] = value\n",
        new="    pass\n",
        killers=(f"{_NNX}::test_update_stats_of_the_call_and_of_the_constructor", _NNX),
    ),
    Mutation(
        name="nnx-drops-its-dtype",
        file="specjax/nnx.py",
        old="params = cast(applied.params, rule, self.dtype)",
        new="params = applied.params",
        killers=(f"{_NNX}::test_dtype_is_that_of_the_kernel_used",),
    ),
    Mutation(
        name="nnx-reads-a-transposed-kernel-as-a-plain-one",
        file="specjax/_flax_layers.py",
        old='transposed=kind == "ConvTranspose"',
        new="transposed=False",
        killers=(_CONV,),
    ),
    Mutation(
        name="nnx-checks-no-input-size",
        file="specjax/nnx.py",
        old="check_input_size(where, params, state, rule, inputs)",
        new="pass",
        killers=(f"{_CONV}::test_another_input_size_is_an_error",),
    ),
    # What both share.
    Mutation(
        name="products-of-any-two-kernels-are-equal",
        file="specjax/_fast/outputs.py",
        old="return self._product, id(self._factors)",
        new="return self._product, 0",
        killers=(
            f"{_NETWORK}::test_a_jit_within_is_traced_once_for_layers_that_are_alike",
            f"{_NETWORK}::test_a_layer_that_is_called_twice",
        ),
        equivalent="Products are compared where a trace is looked up, and inside of such a "
        "trace each kernel is a tracer of its own: no factor is found for it.",
    ),
    Mutation(
        name="float16-is-scaled-too-late",
        file="specjax/_fast/outputs.py",
        old=" or least < 100:",
        new=":",
        killers=(
            f"{_SCALED}::test_a_float16_kernel_is_cast_after_it_is_normalized",
            _SCALED,
        ),
    ),
    Mutation(
        name="a-scale-is-rounded-to-bfloat16",
        file="specjax/_fast/outputs.py",
        old="_cast(_cast(y, vector_dtype(y.dtype)) * factor.scale, y.dtype)",
        new="y * _cast(factor.scale, y.dtype)",
        killers=(
            f"{_SCALED}::test_a_scale_between_two_bfloat16_numbers_is_not_rounded",
        ),
    ),
    Mutation(
        name="a-mask-is-no-reason",
        file="specjax/_fast/outputs.py",
        old='for w in ("mask", f"{word}_cls"))',
        new='for w in (f"{word}_cls",))',
        killers=(f"{_SCALED}::test_a_mask_stays",),
    ),
    Mutation(
        name="a-slice-of-a-stack-is-scaled-as-one",
        file="specjax/_fast/outputs.py",
        old="if f.normalized is kernel and not f.scale.ndim)",
        new="if f.normalized is kernel)",
        killers=(f"{_SCALED}::test_a_kernel_that_is_normalized_in_slices",),
    ),
    Mutation(
        name="once-forgets-the-params",
        file="specjax/_flax_layers.py",
        old="self._left = jax.tree.leaves((params, self._result.state))",
        new="self._left = jax.tree.leaves((self._result.params, self._result.state))",
        killers=(f"{_LINEN}::test_layer_called_twice_is_normalized_once",),
    ),
    Mutation(
        name="once-looks-at-the-state-alone",
        file="specjax/_flax_layers.py",
        old="    leaves = jax.tree.leaves(now)\n"
        "    return left is not None and [*map(id, left)] == [*map(id, leaves)]",
        new="    leaves = jax.tree.leaves(now[1])\n"
        "    return left is not None and "
        "[*map(id, left[-len(leaves) :])] == [*map(id, leaves)]",
        killers=(
            f"{_NNX}::test_kernel_that_changes_between_two_calls_is_normalized_anew",
        ),
    ),
    Mutation(
        name="channels-of-an-operator-are-a-spatial-axis",
        file="specjax/_flax_layers.py",
        old="tuple(inputs[-n_spatial - 1 : -1])",
        new="tuple(inputs[-n_spatial:])",
        killers=(f"{_CONV}::test_linen_wrapper_reads_the_geometry_off_the_layer",),
    ),
    Mutation(
        name="the-dilation-of-a-layer-is-not-read",
        file="specjax/_flax_layers.py",
        old='        "rhs_dilation": _plain(layer.kernel_dilation),\n',
        new="",
        killers=(f"{_CONV}::test_linen_wrapper_reads_the_geometry_off_the_layer",),
    ),
    Mutation(
        name="the-dilation-of-an-input-is-not-read",
        file="specjax/_flax_layers.py",
        old='        words["lhs_dilation"] = _plain(layer.input_dilation)\n',
        new="",
        killers=(f"{_CONV}::test_linen_wrapper_reads_the_geometry_off_the_layer",),
    ),
    Mutation(
        name="a-letter-of-an-einsum-in-the-output-is-an-input",
        file="specjax/_flax_layers.py",
        old="in_axis = tuple(sides.get((True, False), ()))",
        new="in_axis = tuple(sides.get((True, False), ())[:1])",
        killers=(
            f"{_LINEN}::test_layer_runs_with_kernels_of_norm_one",
            "tests/test_messages.py",
        ),
    ),
    Mutation(
        name="options-drop-the-cap-of-fuse",
        file="specjax/transforms.py",
        old="bound=bound, cap=cap, method=method",
        new="bound=bound, method=method",
        killers=(
            "tests/test_contract.py::test_options_that_are_bound_are_those_of_the_functions",
        ),
    ),
    Mutation(
        name="options-drop-the-key-of-init",
        file="specjax/transforms.py",
        old="return sn_init(params, kernels=kernels, key=key)",
        new="return sn_init(params, kernels=kernels)",
        killers=(
            "tests/test_contract.py::test_options_that_are_bound_are_those_of_the_functions",
        ),
    ),
)
