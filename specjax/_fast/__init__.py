"""What changes a compiled program and no number. The package is whole without it.

`apply_all` has the signature of the loop over `_core.kernel.apply`. Each trick stands
beside what it assumes of a compiler; docs/design/0014 has what each one buys.
"""

from specjax._fast.door import apply_all as apply_all
from specjax._fast.outputs import ScaledProducts as ScaledProducts

__all__ = ["ScaledProducts", "apply_all"]
