"""Torch: the plain network, and `parametrizations.spectral_norm` on each layer.

By torch's documentation: the parametrization is registered on "weight", once for each
layer; a forward pass in training mode takes one power step. Eager, channels first.
"""

from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found]
from torch import nn  # type: ignore[import-not-found]
from torch.nn import functional as F  # type: ignore[import-not-found]
from torch.nn.utils import parametrizations  # type: ignore[import-not-found]

from benchmarks.rivals.training import BETA1, BETA2, RATE, Training
from benchmarks.rivals.weights import Conv, Dense, Numbers, Problem


class TorchNet(nn.Module):
    """A network whose layers are torch's, with the problem's weights."""

    def __init__(self, problem: Problem, *, normalized: bool) -> None:
        """Makes the layers."""
        super().__init__()
        self.net = problem.net
        self.layers, self.arrays = nn.ModuleDict(), nn.ParameterDict()
        for name, layer in problem.layers.items():
            if isinstance(layer, Numbers):
                start = torch.from_numpy(np.array(problem.weights[name]))
                self.arrays[name] = nn.Parameter(start)
                continue
            made = _made(layer, name, problem)
            if normalized:
                made = parametrizations.spectral_norm(made)
            self.layers[name] = made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the scores."""
        return self.net(_TorchLayers(self), x)


class _TorchLayers:
    """Images are (n, channels, height, width); features and tokens have them last."""

    def __init__(self, module: TorchNet) -> None:
        self.module = module

    def dense(self, name: str, x: Any, features: int) -> Any:
        return self.module.layers[name](x)

    def conv(
        self, name: str, x: Any, features: int, window: int, stride: int = 1
    ) -> Any:
        return self.module.layers[name](x)

    def array(self, name: str, shape: tuple[int, ...], start: float) -> Any:
        return self.module.arrays[name]

    def relu(self, x: Any) -> Any:
        return F.relu(x)

    def leaky_relu(self, x: Any) -> Any:
        return F.leaky_relu(x, 0.1)

    def gelu(self, x: Any) -> Any:
        return F.gelu(x, approximate="tanh")

    def standardize(self, x: Any) -> Any:
        return F.layer_norm(x, x.shape[-1:], eps=1e-6)

    def average_pool(self, x: Any) -> Any:
        return F.avg_pool2d(x, 2)

    def max_pool(self, x: Any) -> Any:
        return F.max_pool2d(x, 2)

    def sum_pixels(self, x: Any) -> Any:
        return x.sum((2, 3))

    def flatten(self, x: Any) -> Any:
        return x.movedim(1, -1).flatten(1)

    def tokens(self, x: Any) -> Any:
        return x.flatten(2).mT

    def pixels(self, x: Any, side: int) -> Any:
        return x.mT.unflatten(2, (side, side))

    def mean_tokens(self, x: Any) -> Any:
        return x.mean(-2)

    def attention(self, query: Any, key: Any, value: Any, heads: int = 1) -> Any:
        parts = (
            x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value)
        )
        out = F.scaled_dot_product_attention(*parts)
        return out.transpose(1, 2).flatten(2)


def _made(layer: Dense | Conv, name: str, problem: Problem) -> Any:
    kernel, bias = (problem.weights[f"{name}/{part}"] for part in ("kernel", "bias"))
    match layer:
        case Dense(n_in, n_out):
            made: Any = nn.Linear(n_in, n_out)
            kernel = kernel.T
        case Conv(n_in, n_out, window, stride):
            made = nn.Conv2d(n_in, n_out, window, stride, layer.padding)
            kernel = kernel.transpose(3, 2, 0, 1)
    with torch.no_grad():
        made.weight.copy_(torch.from_numpy(kernel.copy()))
        made.bias.copy_(torch.from_numpy(bias))
    return made


def plain(problem: Problem) -> Training:
    """Returns the network without normalization."""
    return _training(problem, normalized=False)


def torch_parametrized(problem: Problem) -> Training:
    """Returns the network with `parametrizations.spectral_norm` on each layer."""
    return _training(problem, normalized=True)


def _training(problem: Problem, *, normalized: bool) -> Training:
    torch.manual_seed(0)
    model = TorchNet(problem, normalized=normalized)
    adam = torch.optim.Adam(model.parameters(), RATE, (BETA1, BETA2))

    def step(carried: None, real: Any, fake: Any) -> tuple[None, Any]:
        adam.zero_grad()
        if problem.passes == 2:
            true, false = model(real), model(fake)
        else:
            true, false = model(torch.cat([real, fake])).chunk(2)
        loss = F.relu(1 - true).mean() + F.relu(1 + false).mean()
        loss.backward()
        adam.step()
        return carried, loss.detach()

    def forward(carried: None, x: Any) -> Any:
        with torch.no_grad():
            return model(x)

    return Training(step, None, forward, _channels_first, eager=True)


def _channels_first(x: np.ndarray) -> torch.Tensor:
    x = np.moveaxis(x, -1, 1) if x.ndim == 4 else x
    return torch.from_numpy(np.ascontiguousarray(x))
