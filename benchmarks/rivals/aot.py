"""What the compilers for a TPU, a GPU and the CPU count of every jitted step.

Neither a TPU nor a GPU has to be there.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

# First: its import says to libtpu that no TPU need be looked for.
from benchmarks.tpu.topologies import LITTLE_EFFORT, tpu_devices  # isort: skip

import jax
from jax.sharding import SingleDeviceSharding

from benchmarks.gpu import gpu_devices
from benchmarks.rivals.compiled import counts, launches, on_chip
from benchmarks.rivals.field import FIELD, Rival
from benchmarks.rivals.nets import Case
from benchmarks.rivals.weights import problem

Row = dict[str, Any]
CHIP = "v5e:2x2"  # of whose four chips one is compiled for


def measure(
    net: str,
    case: Case,
    batch: int,
    *,
    compiler: str = "tpu",
    little_effort: bool = False,
    passes: int = 1,
    rivals: Sequence[Rival] = FIELD,
    say: Callable[[str], None] = lambda _: None,
) -> Iterable[Row]:
    """Yields a row for each rival that is jitted and installed.

    Args:
        net: the network's name, for the rows.
        case: the network.
        batch: real inputs, and as many fake.
        compiler: "tpu", "gpu" or "cpu".
        little_effort: whether the TPU's compiler is not to search.
        passes: in which real and fake inputs go through the network: 1 or 2.
        rivals: which to count.
        say: is told what is done.
    """
    about = problem(case.net, case.image_shape, passes, cold=True)
    chip = SingleDeviceSharding(_device(compiler))
    little_effort = little_effort and compiler == "tpu"
    for rival in rivals:
        if rival.missing():
            continue
        training = rival.prepare(about)
        if training.eager:
            continue
        say(f"{net}: {rival.name}")
        inputs = jax.eval_shape(training.inputs, _shape(batch, case.image_shape))
        arguments = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=chip),
            (training.carried, inputs, inputs),
        )
        lowered = jax.jit(training.step, donate_argnums=0).lower(*arguments)
        compiled = lowered.compile(LITTLE_EFFORT if little_effort else None)
        yield {
            "net": net,
            "batch": batch,
            "passes": passes,
            "rival": rival.name,
            "plain": rival.plain,
            "ours": rival.ours,
            "little_effort": little_effort,
            compiler: _counts(compiler, compiled),
        }


def _device(compiler: str) -> Any:
    match compiler:
        case "tpu":
            return tpu_devices(CHIP, 1)[0]
        case "gpu":
            return gpu_devices()[0]
        case _:
            return jax.devices(compiler)[0]


def _counts(compiler: str, compiled: Any) -> dict[str, int]:
    match compiler:
        case "tpu":
            return counts(compiled)._asdict() | on_chip(compiled)._asdict()
        case "gpu":
            return launches(compiled)._asdict()
        case _:
            return counts(compiled)._asdict()


def _shape(batch: int, image_shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((batch, *image_shape), "float32")
