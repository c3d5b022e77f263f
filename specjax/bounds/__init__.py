"""What the norm of a kernel is, and what it can not exceed: values that say which.

    lower <= the norm <= upper;  exact, where its matrices fit into the memory

Each function takes a kernel (or a stack) and its linear map, and returns a `Norm`: the
number, its kind, whether it is of the matrix or of the operator, and the method.
"""

from specjax._moved import claim as _claim
from specjax.bounds._exact import exact, singular_values
from specjax.bounds._lower import lower
from specjax.bounds._norm import Norm
from specjax.bounds._upper import upper

__all__ = [
    "Norm",
    "exact",
    "lower",
    "singular_values",
    "upper",
]
_claim(__name__, __all__, globals())
