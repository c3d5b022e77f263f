"""A Lipschitz constant of a network with its proof: the product of its parts' bounds.

    names, functions, parts --walk--> a factor for each --product--> a certificate

`specjax.lipschitz` is the function; the parts and what it returns are public names of
`specjax`, too.
"""
