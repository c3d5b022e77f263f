"""The table's rows: each a network on a mesh, compiled with SN and without."""

import dataclasses
from typing import Any

from jax.sharding import Mesh

from benchmarks.tpu import gan, transformer
from benchmarks.tpu.counts import Counts, count
from benchmarks.tpu.topologies import BY_CHIPS, LITTLE_EFFORT, tpu_devices, tpu_mesh

SHARDED = 4  # devices along "model"


@dataclasses.dataclass(frozen=True)
class Row:
    """A network, how many chips, and how its kernels lie on them.

    Attributes:
        network: "transformer", or a preset of the GAN.
        chips: a key of `BY_CHIPS`.
        kernels: "replicated", "sharded" (over "model") or "fully sharded" (over "data",
            too).
    """

    network: str
    chips: int
    kernels: str

    @property
    def name(self) -> str:
        """A key for the row: "cifar10, 8, sharded"."""
        return f"{self.network}, {self.chips}, {self.kernels}"

    def mesh(self) -> Mesh:
        """Returns the row's mesh; a device for each chip."""
        devices = tpu_devices(BY_CHIPS[self.chips], self.chips)
        return tpu_mesh(devices, 1 if self.kernels == "replicated" else SHARDED)

    def count(self, *, normalized: bool) -> Counts:
        """Compiles the row's step and returns its numbers."""
        if self.network != "transformer":
            lowered = gan.lower(self.network, self.mesh(), normalized=normalized)
            return count(lowered, LITTLE_EFFORT)
        split = self.kernels == "fully sharded"
        sizes = transformer.Sizes()
        return count(
            transformer.lower(sizes, self.mesh(), split=split, normalized=normalized)
        )


_LAYOUTS = {
    1: ("replicated",),
    8: ("replicated", "sharded", "fully sharded"),
    64: ("replicated", "sharded"),
    256: ("replicated", "sharded", "fully sharded"),
    512: ("sharded",),
}


def all_rows() -> list[Row]:
    """Returns the rows in the order of the table."""
    return [
        Row(network, chips, kernels)
        for network in ("transformer", "cifar10", "digits")
        for chips, layouts in _LAYOUTS.items()
        for kernels in layouts
        if network == "transformer" or kernels != "fully sharded"
    ]


def measure(row: Row) -> dict[str, Any]:
    """Returns the row with its numbers, as JSON takes it."""
    without, normalized = (row.count(normalized=n) for n in (False, True))
    mesh = row.mesh()
    return {
        **dataclasses.asdict(row),
        "topology": BY_CHIPS[row.chips],
        "mesh": dict(mesh.shape),
        "without": without._asdict(),
        "with": normalized._asdict(),
    }
