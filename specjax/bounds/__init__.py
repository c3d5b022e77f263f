"""What the norm of a kernel is, and what it can not exceed: values that say which.

    lower <= the norm <= upper;  exact, where its matrices fit into the memory

Each function takes a kernel (or a stack) and its linear map, and returns a `Norm`: the
number, its kind, whether it is of the matrix or of the operator, and the method.
"""

from specjax.bounds._exact import exact as exact
from specjax.bounds._exact import singular_values as singular_values
from specjax.bounds._lower import lower as lower
from specjax.bounds._norm import Norm as Norm
from specjax.bounds._upper import upper as upper
