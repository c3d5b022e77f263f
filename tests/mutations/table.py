"""All mutations."""

from tests.mutations import bounds, constraints, core, tools, wrappers
from tests.mutations.mutation import Mutation

TABLE: tuple[Mutation, ...] = (
    *core.MUTATIONS,
    *bounds.MUTATIONS,
    *wrappers.MUTATIONS,
    *constraints.MUTATIONS,
    *tools.MUTATIONS,
)
