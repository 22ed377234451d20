"""What bounds on numbers are made of: how far the same numbers move when every weight of the model is rounded once more.

Two ways of computing the same round in different places, and where they do depends on the processor, on its libraries and
on the number of threads. So no test says how far apart they may be: it measures what rounding does to its own model and
inputs on the machine it runs on, and allows `ROOM` times that. Laws are tested in float64, where a wrong mask, position or
weight is a million times larger than the bound; that float32 is no different is tested beside them, with its own rounding.
"""

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from model_toys import tiny_model

from algorithms.packing import packable

Numbers = Mapping[str, torch.Tensor]

ROOM = 16.0
"""The weights are rounded once, what is computed from them at every operation."""
_DRAWS = 4


def moved(model: Any, seed: int = 0) -> Any:
    """Returns a copy of a model in which each weight is one of its two neighbours."""
    other, draws = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            up = torch.rand(weight.shape, generator=draws) < 0.5
            towards = torch.where(up, torch.inf, -torch.inf).to(weight)
            weight.copy_(torch.nextafter(weight, towards))
    return other


def rounding(compute: Callable[[Any], Numbers], model: Any) -> Mapping[str, float]:
    """Returns how far each of the numbers that `compute` makes of a model moves, at least by one rounding of its own."""
    exact = _detached(compute(copy.deepcopy(model)))
    found = {name: float(value.abs().max()) * torch.finfo(value.dtype).eps for name, value in exact.items()}
    for seed in range(_DRAWS):
        again = _detached(compute(moved(model, seed)))
        found = {name: max(least, float((exact[name] - again[name]).abs().max())) for name, least in found.items()}
    return found


def _detached(numbers: Numbers) -> Numbers:
    return {name: value.detach().clone() for name, value in numbers.items()}


def check_equal(one: Numbers, other: Numbers, rounded: Mapping[str, float]) -> None:
    """Asserts that numbers computed in two ways are the same up to `ROOM` times what `rounding` found."""
    assert one.keys() == other.keys() == rounded.keys()
    apart = {name: float((one[name] - other[name]).detach().abs().max()) for name in one}
    wrong = {name: (apart[name], ROOM * rounded[name]) for name in one if not apart[name] <= ROOM * rounded[name]}
    assert not wrong, "; ".join(f"{name}: {is_:.2g} apart, rounding allows {may:.2g}" for name, (is_, may) in wrong.items())


def embedding_rounding(model: Any) -> float:
    """Returns how far a log-probability of a small tree's rows moves when each embedding is one of its two neighbours, nats."""
    rng = np.random.default_rng(0)

    def rounded(module: torch.nn.Module, inputs: Any, embedded: torch.Tensor) -> torch.Tensor:
        signs = torch.from_numpy(rng.choice((-1.0, 1.0), size=tuple(embedded.shape))).to(embedded)
        return embedded * (1.0 + torch.finfo(embedded.dtype).eps * signs)

    exact = packable._scored(model, 32, 8, packed=False)
    hook = model.get_input_embeddings().register_forward_hook(rounded)
    try:
        return float((packable._scored(model, 32, 8, packed=False) - exact).abs().max())
    finally:
        hook.remove()


def nats(model: Any, temperature: float = 1.0) -> float:
    """Returns how far a log-probability or an entropy of a model may be from the same, computed in another way."""
    return ROOM * embedding_rounding(model) / temperature


@functools.cache
def toy_nats(family: str = "llama", dtype: torch.dtype = torch.float64, temperature: float = 1.0) -> float:
    """Returns the same of a tiny model."""
    return nats(tiny_model(family, dtype=dtype), temperature)


def kl(nats: float) -> float:
    """Returns how large r - 1 - log r may be where log r is 0 up to `nats`."""
    return nats**2


def slack(nats: float) -> dict[str, float]:
    """Returns what a policy promises `check_policy` that is as exact as that."""
    return {"greedy_ties": nats, "entropy_slack": nats, "logprob_slack": nats}
