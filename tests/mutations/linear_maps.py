"""Mutations of vectors and linear maps."""

from tests.mutations.mutation import Mutation

_ARROWS = "tests/test_arrows.py"
_CONTRACT = "tests/test_contract.py"
_CONV = "tests/test_conv.py"
_MESSAGES = "tests/test_messages.py"
_SHARD_MAP = "tests/test_shard_map.py"

MUTATIONS = (
    # Vectors.
    Mutation(
        name="a-hash-without-the-sizes",
        file="specjax/_core/vectors.py",
        old="index = index * np.uint32(size) + here",
        new="index = index + here",
        killers=(
            f"{_ARROWS}::test_hashed_unit_vector_misses_no_coordinate_and_is_no_pattern",
        ),
    ),
    Mutation(
        name="each-device-starts-with-the-same-shard",
        file="specjax/_core/vectors.py",
        old="start = place(names) * shape[axis]\n        vector",
        new="start = 0 * place(names)\n        vector",
        killers=(f"{_SHARD_MAP}::test_a_random_start_is_the_single_devices",),
    ),
    Mutation(
        name="a-shard-has-the-norm-of-the-whole",
        file="specjax/_core/vectors.py",
        old="scale = (12 / 7 / max(1, math.prod(whole))) ** 0.5",
        new="scale = (12 / 7 / max(1, math.prod(shape))) ** 0.5",
        killers=(
            f"{_SHARD_MAP}::test_a_shard_of_a_hashed_unit_vector_is_that_of_the_whole",
        ),
    ),
    # Linear maps.
    Mutation(
        name="the-adjoint-of-a-matrix-without-conj",
        file="specjax/linear_maps/_matrix.py",
        old="_contract(jnp.conj(kernel), y, self.out_axis, self.in_axis)",
        new="_contract(kernel, y, self.out_axis, self.in_axis)",
        killers=(f"{_ARROWS}::test_apply_and_adjoint_are_the_matrix_and_its_adjoint",),
    ),
    Mutation(
        name="an-outer-product-without-conj",
        file="specjax/linear_maps/_matrix.py",
        old="jnp.conj(y), self.in_axis",
        new="y, self.in_axis",
        killers=(f"{_CONTRACT}::test_n8_complex64_gradient_is_the_svds",),
    ),
    Mutation(
        name="a-product-at-the-default-precision",
        file="specjax/linear_maps/_matrix.py",
        old="highest, own = lax.Precision.HIGHEST, tuple(range(len(over)))",
        new="highest, own = None, tuple(range(len(over)))",
        killers=(f"{_ARROWS}::test_products_on_a_cpu_name_their_precision",),
    ),
    Mutation(
        name="an-axis-may-be-left-out",
        file="specjax/linear_maps/_matrix.py",
        old="elif self.in_axis is not None and others:",
        new="elif self.in_axis is not None and not others and False:",
        killers=(f"{_MESSAGES}::test_axes_that_do_not_fit_the_kernel",),
    ),
    Mutation(
        name="a-batch-of-two-axes-in-the-other-order",
        file="specjax/_core/batch.py",
        old="for gone, axis in reversed(list(enumerate(linear_map.batch_axis))):",
        new="for gone, axis in [(0, a) for a in linear_map.batch_axis[::-1]]:",
        killers=(f"{_CONTRACT}::test_n13_two_batch_axes_anywhere",),
    ),
    Mutation(
        name="one-cast-of-the-kernel-for-all-uses",
        file="specjax/_core/batch.py",
        old="return lax.optimization_barrier((kernel, vector))[0]",
        new="return kernel",
        killers=(
            f"{_CONTRACT}::test_n8_a_bfloat16_kernel_is_never_a_float32_array_in_memory",
        ),
    ),
    Mutation(
        name="no-wall-between-there-and-back",
        file="specjax/_fast/products.py",
        old=("v, v2 = lax.optimization_barrier((v, v2))\n    cast"),
        new=("pass\n    cast"),
        killers=(
            "tests/tpu/test_kernels.py::test_an_update_of_a_convolution_reads_the_kernel_twice",
        ),
    ),
    Mutation(
        name="a-batch-is-nothing-if-its-first-array-is",
        file="specjax/_fast/batch.py",
        old="[jnp.any(x != 0) for x in batch])",
        new="[jnp.any(x != 0) for x in batch[:1]])",
        killers=(
            "tests/test_fast.py::test_a_batch_in_which_only_one_of_the_arrays_is_not_zero",
        ),
    ),
    Mutation(
        name="a-member-gets-its-neighbors-vectors",
        file="specjax/_fast/batch.py",
        old="indices = lax.cond(anything, lambda: each, lambda: each[:1] * len(each))",
        new="indices = lax.cond(anything, lambda: each[::-1], lambda: each[:1] * len(each))",
        killers=(
            "tests/test_fast.py::test_a_batch_with_kernels_that_are_zero_or_not_finite",
        ),
    ),
    Mutation(
        name="real-and-imaginary-sums-change-places",
        file="specjax/_fast/products.py",
        old="return sums.real, sums.imag",
        new="return sums.imag, sums.real",
        killers=("tests/test_gpu_form.py::test_a_kernels_products_are_numpys",),
    ),
    # Convolutions.
    Mutation(
        name="circular-ends-change-places",
        file="specjax/linear_maps/_convolve.py",
        old="[(r, 0) if causal else (r // 2, (r + 1) // 2) for r in reach]",
        new="[(r, 0) if causal else ((r + 1) // 2, r // 2) for r in reach]",
        killers=(f"{_CONV}::test_apply_and_adjoint_are_the_layer_and_its_adjoint",),
    ),
    Mutation(
        name="causal-zeros-at-the-end",
        file="specjax/linear_maps/_convolve.py",
        old="[(r, 0) if causal else (r // 2, (r + 1) // 2) for r in reach]",
        new="[(0, r) if causal else (r // 2, (r + 1) // 2) for r in reach]",
        killers=(f"{_CONV}::test_apply_and_adjoint_are_the_layer_and_its_adjoint",),
    ),
    Mutation(
        name="periods-aligned-at-the-other-end",
        file="specjax/linear_maps/_convolve.py",
        old="(less, more) if odd_at_end else (more, less)",
        new="(more, less) if odd_at_end else (less, more)",
        killers=(f"{_CONV}::test_apply_and_adjoint_are_the_layer_and_its_adjoint",),
    ),
    Mutation(
        name="the-adjoint-of-a-convolution-without-conj",
        file="specjax/linear_maps/_conv.py",
        old="self._convolve(jnp.conj(kernel), x)",
        new="self._convolve(kernel, x)",
        killers=(f"{_CONV}::test_complex_kernel_is_its_own_adjoint_pair",),
    ),
    Mutation(
        name="a-convolution-at-the-default-precision",
        file="specjax/linear_maps/_convolve.py",
        old=(
            "feature_group_count=geometry.feature_group_count,\n"
            "        precision=lax.Precision.HIGHEST"
        ),
        new=(
            "feature_group_count=geometry.feature_group_count,\n"
            "        precision=lax.Precision.DEFAULT"
        ),
        killers=(
            "tests/test_precision.py::test_every_contraction_is_at_the_highest_precision",
        ),
    ),
    Mutation(
        name="an-output-of-no-pixels-is-allowed",
        file="specjax/linear_maps/_conv.py",
        old="if min(one.out_shape) < 1:",
        new="if min(one.out_shape) < 0:",
        killers=(f"{_CONV}::test_words_that_do_not_fit",),
    ),
)
