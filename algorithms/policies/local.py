"""The local policy: any causal language model of `transformers`, on CPU or CUDA, batched continuously.

Rows join and leave at every decoding step; a fork, a probe's continuation and a path's next turn reuse
the keys of their prefix. Log-probabilities and entropies are those of the full vocabulary.
"""

import asyncio
import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from arpo_envs import ConfigError

from ..logits import Logits
from ..seeds import uniforms
from . import Generation, Sampling
from .slots import SlotCache


@dataclass
class _Request:
    """One generation under way."""

    context: tuple[int, ...]
    params: Sampling
    seed: int
    offset: int
    future: "asyncio.Future[Generation]"
    slot: int = -1
    stopped: bool = False
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)


class LocalPolicy:
    """Draws from a `transformers` model.

    Args:
        model: a causal language model with full attention in every layer; it is copied, so that
            training it elsewhere changes nothing here until `load`.
        tokenizer: its tokenizer, to find stop strings.
        device: where to run, e.g. "cpu" or "cuda".
        context_length: longest sequence in tokens.
        slots: sequences whose keys are kept; at most this many rows decode together.

    Raises:
        ConfigError: the model has layers this engine cannot run.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, device: str | torch.device = "cpu", context_length: int = 512, slots: int = 256
    ) -> None:
        _refuse_foreign_attention(model.config)
        self.device = torch.device(device)
        self.model = copy.deepcopy(model).to(self.device).eval().requires_grad_(False)
        self._logits = Logits(self.model)
        self.tokenizer = tokenizer
        self.context_length = min(context_length, int(getattr(model.config, "max_position_embeddings", context_length)))
        self.vocabulary_size = int(model.config.vocab_size)
        self.version = 0
        self.prefilled_tokens = 0
        """Tokens computed so far, sampled ones included: what prefix reuse keeps small."""
        self._cache = SlotCache(slots, self.context_length)
        self._waiting: list[_Request] = []
        self._decoding: list[_Request] = []
        self._server: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="arpo-policy")

    async def generate(
        self, context: Sequence[int], params: Sampling, *, seed: int, offset: int = 0, tail: str = ""
    ) -> Generation:
        """Continues `context`; see `Policy.generate`.

        Raises:
            ValueError: the context is empty, or has no room for `max_tokens` more.
        """
        if not context or params.max_tokens < 1:
            raise ValueError(f"Nothing to do: {len(context)} tokens of context, max_tokens={params.max_tokens}.")
        if len(context) + params.max_tokens > self.context_length:
            raise ValueError(
                f"{len(context)} tokens of context and {params.max_tokens} to draw exceed the limit of {self.context_length}."
            )
        loop = asyncio.get_running_loop()
        request = _Request(tuple(context), params, seed, offset, loop.create_future())
        self._waiting.append(request)
        if self._server is None or self._server.done():
            self._server = loop.create_task(self._serve())
        return await request.future

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Takes over a state dict; what was remembered under the old weights is forgotten."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load, weights, version)

    def _load(self, weights: Mapping[str, Any], version: int) -> None:
        self._drop_abandoned()
        if self._decoding:
            raise RuntimeError("Weights were loaded while generations were under way; await them first.")
        self.model.load_state_dict(weights)
        self._cache.forget()
        self.version = version

    async def close(self) -> None:
        """Ends the decoding thread; generations under way fail."""
        if self._server is not None and not self._server.done():
            self._server.cancel()
            await asyncio.wait([self._server])
        self._thread.shutdown(wait=False)

    # --- the engine -----------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Decodes until nobody waits; one forward pass at a time, in a thread, so that tools go on."""
        loop = asyncio.get_running_loop()
        arrived: list[_Request] = []
        try:
            while self._waiting or self._decoding:
                arrived, self._waiting = self._waiting, []
                done, self._waiting[:0] = await loop.run_in_executor(self._thread, self._round, arrived)
                for request in done:
                    _deliver(request, self.version)
        except asyncio.CancelledError:  # the thread may still be in its round, so rows are left to `_drop_abandoned`
            _fail([*self._decoding, *self._waiting, *arrived], RuntimeError("The policy was closed."))
            self._waiting = []
            raise
        except Exception as error:  # noqa: BLE001  # whatever the backend raised belongs to those who wait for it
            failed, self._decoding, self._waiting = [*self._decoding, *self._waiting, *arrived], [], []
            self._cache.forget()
            for request in failed:
                if request.slot >= 0:
                    self._cache.free(request.slot)
            _fail(failed, error)

    @torch.inference_mode()
    def _round(self, arrived: list[_Request]) -> tuple[list[_Request], list[_Request]]:
        """Admits what fits, draws one token per row; returns finished requests and those that must wait."""
        self._drop_abandoned()
        still_waiting: list[_Request] = []
        admitted: list[_Request] = []
        for request in arrived:
            if request.future.done():
                continue
            placement = self._cache.place(request.context)
            if placement is None:
                still_waiting.append(request)
            else:
                request.slot = placement.slot
                admitted.append(request)
        done: list[_Request] = []
        for rows in (self._decoding, admitted):  # apart, so that one long prefill does not pad all others
            if rows:
                done += self._draw(rows)
        for request in done:
            self._cache.free(request.slot)
        ended = {id(request) for request in done}
        self._decoding = [request for request in (*self._decoding, *admitted) if id(request) not in ended]
        return done, still_waiting

    def _drop_abandoned(self) -> None:
        """Frees the rows of requests that were cancelled; each is asked once, as that may happen at any moment."""
        kept: list[_Request] = []
        for request in self._decoding:
            if request.future.done():
                self._cache.free(request.slot)
            else:
                kept.append(request)
        self._decoding = kept

    def _draw(self, rows: list[_Request]) -> list[_Request]:
        """Draws one token for each row; returns the rows that are complete."""
        inputs = self._cache.begin([request.slot for request in rows], self.device, self.model.dtype)
        last_B = inputs.pop("last_B")
        self.prefilled_tokens += int((last_B + 1).sum())
        where = (torch.arange(len(rows), device=self.device), last_B)
        logits_BV = self._logits(where, **inputs, past_key_values=self._cache, use_cache=True)
        temperature_B = torch.tensor([request.params.temperature or 1.0 for request in rows], device=self.device)
        logp_BV = torch.log_softmax(logits_BV / temperature_B[:, None], dim=-1)
        entropy_B = -(logp_BV.exp() * logp_BV).nan_to_num(0.0).sum(-1)
        token_B = self._pick(rows, logp_BV)
        chosen_B = logp_BV.gather(1, token_B[:, None])[:, 0]
        done = []
        drawn = zip(rows, token_B.tolist(), chosen_B.tolist(), entropy_B.tolist(), strict=True)
        for request, token, logprob, entropy in drawn:
            request.tokens.append(token)
            request.logprobs.append(logprob)
            request.entropies.append(entropy)
            request.stopped = self._is_stopped(request)
            if request.stopped or len(request.tokens) >= request.params.max_tokens:
                done.append(request)
            else:
                self._cache.append(request.slot, token)
        return done

    def _pick(self, rows: list[_Request], logp_BV: torch.Tensor) -> torch.Tensor:
        """Returns one token per row: the inverse of the cumulative distribution at u(seed, position)."""
        seeds_B = np.array([request.seed for request in rows], dtype=np.uint64)
        positions_B = np.array([request.offset + len(request.tokens) for request in rows], dtype=np.uint64)
        u_B = torch.from_numpy(uniforms(seeds_B, positions_B)).to(self.device)
        cumulative_BV = logp_BV.double().exp().cumsum(-1)
        sampled_B = torch.searchsorted(cumulative_BV, (u_B * cumulative_BV[:, -1])[:, None], right=True)[:, 0]
        greedy = torch.tensor([request.params.temperature == 0.0 for request in rows], device=self.device)
        return torch.where(greedy, logp_BV.argmax(-1), sampled_B.clamp(max=self.vocabulary_size - 1))

    def _is_stopped(self, request: _Request) -> bool:
        """Whether the action is complete; what was sampled before this call counts, so stops match across the seam."""
        if request.tokens[-1] in request.params.stop_tokens:
            return True
        if not request.params.stop:
            return False
        action = [*request.context[len(request.context) - request.offset :], *request.tokens]
        text = self.tokenizer.decode(action, clean_up_tokenization_spaces=False)
        return any(stop in text for stop in request.params.stop)


def _deliver(request: _Request, version: int) -> None:
    if request.future.done():
        return
    request.future.set_result(
        Generation(
            tuple(request.tokens),
            tuple(request.logprobs),
            tuple(request.entropies),
            "stop" if request.stopped else "length",
            version,
        )
    )


def _fail(requests: Sequence[_Request], error: Exception) -> None:
    for request in requests:
        if not request.future.done():
            request.future.set_exception(error)


def _refuse_foreign_attention(config: Any) -> None:
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise ConfigError(
            f"This engine runs models with full attention in every layer; {config.model_type} has {sorted(kinds)}."
        )
    implementation = getattr(config, "_attn_implementation", "sdpa")
    if implementation not in ("sdpa", "eager"):
        raise ConfigError(
            f'This engine needs attn_implementation="sdpa" or "eager", the model was loaded with {implementation!r}.'
        )
