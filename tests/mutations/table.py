"""All mutations."""

from tests.mutations import (
    bounds,
    certificates,
    checkpoints,
    linear_maps,
    optimizers,
    penalties,
    power_step,
    projections,
    reports,
    rules,
    split_kernels,
    wrappers,
)
from tests.mutations.mutation import Mutation

TABLE: tuple[Mutation, ...] = (
    *power_step.MUTATIONS,
    *linear_maps.MUTATIONS,
    *rules.MUTATIONS,
    *bounds.MUTATIONS,
    *certificates.MUTATIONS,
    *wrappers.MUTATIONS,
    *optimizers.MUTATIONS,
    *projections.MUTATIONS,
    *penalties.MUTATIONS,
    *split_kernels.MUTATIONS,
    *checkpoints.MUTATIONS,
    *reports.MUTATIONS,
)
