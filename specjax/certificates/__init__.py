"""A Lipschitz constant of a network with its proof: the product of its parts' bounds.

    names, functions, parts --walk--> a factor for each --product--> a certificate

`specjax.lipschitz` is the function, `Certificate` what it returns; the parts are here.
"""

from specjax._moved import claim as _claim
from specjax.certificates._certificate import Certificate, Factor
from specjax.certificates._parts import Claim, Repeat, Reshape, Residual, Scale
from specjax.certificates._pools import AvgPool, MaxPool, SumPool

__all__ = [
    "AvgPool",
    "Certificate",
    "Claim",
    "Factor",
    "MaxPool",
    "Repeat",
    "Reshape",
    "Residual",
    "Scale",
    "SumPool",
]
_claim(__name__, __all__, globals())
