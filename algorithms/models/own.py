"""A model's own probabilities of a text: one forward pass over it alone, as `transformers` does it, without cache or mask.

Sampler and learner must compute the same probabilities; they may be off by as much as these move when they are rounded
once more.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from .attention import usual_attention
from .logits import precision

_EFFORT = {"cpu": 1e12, "cuda": 1e15}
"""Operations that a comparison may take: about ten seconds."""
_DRAWS = 2
"""Times a rounding is measured; the largest counts."""


def affordable(model: Any, passes: float) -> int:
    """Returns how many tokens this many forward passes of a comparison may have."""
    operations = 2.0 * passes * sum(parameter.numel() for parameter in model.parameters())
    return int(_EFFORT.get(model.device.type, _EFFORT["cpu"]) / operations)


def eps(dtype: torch.dtype, device: torch.device) -> float:
    """Returns the relative size of a rounding: of a number, or of products where the device computes those less exactly.

    Args:
        dtype: of the numbers.
        device: where they are multiplied; float32 may be less precise there than its name says (TF32).
    """
    draws = torch.Generator().manual_seed(0)
    one, other = (torch.randn(128, 128, generator=draws).to(dtype) for _ in range(2))
    exact = one.double() @ other.double()
    apart = (one.to(device) @ other.to(device)).cpu().double() - exact
    return max(torch.finfo(dtype).eps, float(apart.norm() / exact.norm()))


@torch.no_grad()
def logprobs(model: Any, tokens: Sequence[int], places: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """Returns log-probabilities of tokens of a text, each given all before it, [F], nats.

    Args:
        model: a causal language model of `transformers`.
        tokens: ids of the whole text.
        places: of the F tokens in it, none of them 0.
        temperature: of the softmax.
    """
    ids_1T = torch.tensor([list(tokens)], device=model.device)
    before_F = torch.tensor([place - 1 for place in places], device=model.device)
    with usual_attention(model):
        if "logits_to_keep" in inspect.signature(model.forward).parameters:
            logits_FV = model(input_ids=ids_1T, use_cache=False, logits_to_keep=before_F).logits[0]
        else:
            logits_FV = model(input_ids=ids_1T, use_cache=False).logits[0, before_F]
    logp_FV = torch.log_softmax(logits_FV.to(precision(logits_FV.dtype)) / temperature, -1)
    return logp_FV.gather(1, ids_1T[0, before_F + 1][:, None])[:, 0]


@contextmanager
def rounded_once_more(model: Any, eps: float, seed: int = 0) -> Iterator[None]:
    """Makes every layer's output one rounding more or less, for as long as the context lasts.

    Args:
        model: any module.
        eps: size of a rounding, relative.
        seed: of the directions.
    """
    draws: dict[torch.device, torch.Generator] = {}  # for a large model, drawing on another device takes minutes

    def moved(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, torch.Tensor) or not output.is_floating_point():
            return None
        device = output.device
        if device not in draws:
            draws[device] = torch.Generator(device).manual_seed(seed)
        signs = torch.randint(0, 2, output.shape, generator=draws[device], dtype=torch.int8, device=device)
        return output * (1.0 + eps * (2.0 * signs.to(output.dtype) - 1.0))

    hooks = [one.register_forward_hook(moved) for one in model.modules() if not any(True for _ in one.children())]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def rounding(model: Any, tokens: Sequence[int], places: Sequence[int], eps: float, temperature: float = 1.0) -> float:
    """Returns how far these tokens' log-probabilities move when every layer is rounded once more, root mean square, nats.

    Args:
        model: a causal language model of `transformers`.
        tokens: ids of the whole text.
        places: of the F tokens in it, none of them 0.
        eps: size of a rounding, relative.
        temperature: of the softmax.
    """
    exact_F = logprobs(model, tokens, places, temperature)
    moved = 0.0
    for seed in range(_DRAWS):
        with rounded_once_more(model, eps, seed):
            moved = max(moved, float((logprobs(model, tokens, places, temperature) - exact_F).square().mean().sqrt()))
    return moved


class OwnModel:
    """A model that is asked for its own probabilities; where it lies on several ranks, all of them ask for the same.

    Args:
        model: a causal language model of `transformers`.
        whole: while it lasts, the weights outside all blocks can be used.
    """

    def __init__(self, model: Any, whole: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self.model, self._whole = model, whole

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self.model.config

    @property
    def dtype(self) -> torch.dtype:
        """The model's precision."""
        found: torch.dtype = self.model.dtype
        return found

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        found: torch.device = self.model.device
        return found

    def affordable(self, passes: float) -> int:
        """Returns how many tokens this many forward passes of a comparison may have."""
        return affordable(self.model, passes)

    def logprobs(self, tokens: Sequence[int], places: Sequence[int], temperature: float) -> list[float]:
        """Returns log-probabilities of tokens of a text; see `logprobs`."""
        with self._whole():
            return [float(logp) for logp in logprobs(self.model, tokens, places, temperature)]

    def rounding(self, tokens: Sequence[int], places: Sequence[int], eps: float, temperature: float) -> float:
        """Returns how far a rounding moves them; see `rounding`."""
        with self._whole():
            return rounding(self.model, tokens, places, eps, temperature)

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Gives the model other weights for as long as the context lasts: other embeddings, and adapters with an effect."""
        embedding = self.model.get_input_embeddings().weight
        adapters = [it for name, it in self.model.named_parameters() if "lora_B" in name or "lora_embedding_B" in name]
        kept = [tensor.detach().clone() for tensor in adapters]
        draws = torch.Generator().manual_seed(0)
        _put(embedding, _whole(embedding).roll(1, 0))
        for tensor in adapters:
            _put(tensor, 0.1 * torch.randn(tensor.shape, generator=draws))
        try:
            yield
        finally:
            _put(embedding, _whole(embedding).roll(-1, 0))
            for tensor, before in zip(adapters, kept, strict=True):
                with torch.no_grad():
                    tensor.copy_(before)


def _whole(weight: Any) -> torch.Tensor:
    whole: torch.Tensor = (weight.full_tensor() if hasattr(weight, "full_tensor") else weight).detach()
    return whole


@torch.no_grad()
def _put(weight: Any, whole: torch.Tensor) -> None:
    """Gives a weight, or each rank's part of it, other numbers."""
    if hasattr(weight, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        whole = distribute_tensor(whole.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)
    weight.copy_(whole)
