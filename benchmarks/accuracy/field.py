"""Who is measured: ours and every rival, by the name that the tables print."""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.accuracy import jax_rivals, other_rivals, ours
from benchmarks.accuracy.method import Kernel, Method, Passes

OURS = "specjax"
FACTORIES: dict[str, Callable[[int], Method]] = {
    OURS: ours.functions,
    "flax.linen": jax_rivals.linen,
    "flax.nnx": jax_rivals.nnx_layer,
    "haiku": jax_rivals.haiku,
    "equinox": jax_rivals.equinox,
    "torch": other_rivals.torch_layer,
    "keras on jax": other_rivals.keras_layer,
}


class Field(NamedTuple):
    """The methods that are there, by name and power steps, and why others are not.

    Attributes:
        methods: by name and power steps for each update.
        passes: of the same, counted for one kernel.
        missing: the import's own message, by name.
    """

    methods: dict[tuple[str, int], Method]
    passes: dict[tuple[str, int], Passes]
    missing: dict[str, str]

    def with_steps(self, n_steps: int) -> dict[str, Method]:
        """Returns the methods that take so many power steps for each update."""
        return {name: m for (name, n), m in self.methods.items() if n == n_steps}


def field(kernel: Kernel, all_steps: tuple[int, ...] = (1,)) -> Field:
    """Returns every method that is installed, with its passes over this kernel."""
    methods, missing = {}, {}
    for name, factory in FACTORIES.items():
        try:
            methods |= {(name, n): factory(n) for n in all_steps}
        except ImportError as error:
            missing[name] = str(error)
    passes = {which: method.passes(kernel) for which, method in methods.items()}
    return Field(methods, passes, missing)
