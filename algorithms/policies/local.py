"""The local policy: any causal language model of `transformers`, on CPU or CUDA, batched continuously.

Rows join and leave at every decoding step; a fork, a probe's continuation and a path's next turn reuse
the keys of their prefix. Log-probabilities and entropies are those of the full vocabulary.
"""

import asyncio
import copy
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from arpo_envs import ArpoError, ConfigError

from ..models.attention import keep_soft_cap, reaches
from ..models.compiled import plain
from ..models.logits import Logits
from ..seeds import uniforms
from . import Generation, Sampling, require_request
from .blocks import block_size
from .slots import SlotCache, bytes_per_token, refuse_foreign_attention
from .stopping import StopStrings
from .weight_sync import Delivery, require_names

_DEFAULT_CACHE_BYTES = 2 << 30
_PADDING = 64
"""Tokens of padding that cost less than one more forward pass."""


class NoNumber(ArpoError):
    """A model's logits are NaN or infinite, so no token can be sampled."""


@dataclass
class _Request:
    """One generation in progress."""

    context: tuple[int, ...]
    params: Sampling
    seed: int
    offset: int
    future: "asyncio.Future[Generation]"
    slot: int = -1
    stopped: bool = False
    broken: bool = False
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)

    @property
    def sequence(self) -> tuple[int, ...]:
        """All tokens so far."""
        return (*self.context, *self.tokens)


class LocalPolicy:
    """Draws from a `transformers` model.

    Args:
        model: a causal language model that caches only keys and values; it is copied, so training it elsewhere
            changes nothing here until `load`. `agreement` checks that this engine draws with the model's probabilities.
        tokenizer: its tokenizer, to find stop strings.
        device: where to run, e.g. "cpu" or "cuda".
        context_length: longest sequence in tokens.
        slots: sequences whose keys are kept; at most this many rows decode together.
        cache_tokens: the memory budget: tokens whose keys are kept; a token that sequences share counts once.
            When it is used up, the least recently used are dropped, and if that is not enough, rows wait.
            Rows that decode are held twice, so at most twice this budget is ever used.
            By default what fits into 2 GiB, and no more than the slots could hold.
        dtype: to run in, e.g. `torch.bfloat16`; by default the model's own.
        batch_invariant: compute so that a generation is the same to the last bit, whatever is computed beside or before it,
            on this processor with this number of threads: one row at a time, in blocks of fixed shape. It is what makes the
            tree of one prompt independent of all others, and slower the more rows there are.

    Raises:
        ConfigError: the model cannot be run with this engine's cache and masks, or one context exceeds `cache_tokens`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        device: str | torch.device = "cpu",
        context_length: int = 512,
        slots: int = 256,
        cache_tokens: int | None = None,
        dtype: torch.dtype | None = None,
        batch_invariant: bool = False,
    ) -> None:
        refuse_foreign_attention(model.config)
        self.device = torch.device(device)
        own = copy.deepcopy(plain(model))
        self.model = own.to(device=self.device, dtype=dtype or model.dtype).eval().requires_grad_(False)
        keep_soft_cap(self.model)
        self._logits = Logits(self.model)
        self.tokenizer = tokenizer
        config = model.config.get_text_config()
        self.context_length = min(context_length, int(getattr(config, "max_position_embeddings", None) or context_length))
        self.vocabulary_size = int(config.vocab_size)
        self.dtype = self.model.dtype
        self.at_once = slots
        self.version = 0
        self.prefilled_tokens = 0
        """Tokens computed so far, sampled ones included: what prefix reuse keeps small."""
        budget = self._budget(cache_tokens, slots)
        self._cache = SlotCache(slots, self.context_length, budget, reaches(config))
        self._block = block_size(self.model) if batch_invariant else None
        self._stops = StopStrings(tokenizer)
        self._delivery = Delivery(_InProcess(self))
        self._closed = False
        self._waiting: list[_Request] = []
        self._decoding: list[_Request] = []
        self._server: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="arpo-policy")

    async def generate(
        self, context: Sequence[int], params: Sampling, *, seed: int, offset: int = 0, tail: str = ""
    ) -> Generation:
        """Continues `context`; see `Policy.generate`.

        Raises:
            ConfigError: see `require_request`.
        """
        require_request(self, context, params)
        loop = asyncio.get_running_loop()
        request = _Request(tuple(context), params, seed, offset, loop.create_future())
        self._waiting.append(request)
        if self._server is None or self._server.done():
            self._server = loop.create_task(self._serve())
        return await request.future

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Loads a state dict; everything cached under the old weights is dropped.

        Raises:
            ConfigError: the weights are not this model's.
            RuntimeError: generations are in progress.
        """
        await self._delivery.send(weights, version)

    async def forget(self) -> None:
        """Drops the cache of past tokens: later results do not depend on earlier requests, to the last bit."""
        await self._between_rounds(self._forget)

    async def _between_rounds(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Does something in the thread that decodes."""
        await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _forget(self) -> None:
        self._require_idle("Keys were dropped")
        self._cache.forget()

    def _require_idle(self, what: str) -> None:
        self._drop_abandoned()
        if self._decoding:
            raise RuntimeError(f"{what} while generations were in progress; await them first.")

    async def close(self) -> None:
        """Ends the decoding thread; generations in progress fail."""
        self._closed = True
        if self._server is not None and not self._server.done():
            self._server.cancel()
            await asyncio.wait([self._server])
        self._thread.shutdown(wait=False)

    # --- the engine -----------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Decodes until no request waits; one forward pass at a time, in a thread, so that tools keep running."""
        loop = asyncio.get_running_loop()
        arrived: list[_Request] = []
        try:
            while self._waiting or self._decoding:
                await self._delivery.whole()
                arrived, self._waiting = self._waiting, []
                done, self._waiting[:0] = await loop.run_in_executor(self._thread, self._round, arrived)
                for request in done:
                    _deliver(request, self.version)
        except asyncio.CancelledError:  # the thread may still be in its round, so rows are left to `_drop_abandoned`
            _fail([*self._decoding, *self._waiting, *arrived], RuntimeError("The policy was closed."))
            self._waiting = []
            raise
        except Exception as error:  # noqa: BLE001  # anything the backend raises goes to those who wait for it
            failed, self._decoding, self._waiting = [*self._decoding, *self._waiting, *arrived], [], []
            self._cache.forget()
            for request in failed:
                if request.slot >= 0:
                    self._cache.free(request.slot)
            _fail(failed, error)

    @torch.inference_mode()
    def _round(self, arrived: list[_Request]) -> tuple[list[_Request], list[_Request]]:
        """Admits what fits and draws until a row ends or a request comes; returns ended rows and those that must wait."""
        waiting = self._admit(arrived)
        done: list[_Request] = []
        while self._decoding:
            for rows in self._groups():
                done += self._draw(rows)
            self._leave(done)
            if self._write_down(waiting) or done or waiting or self._waiting or self._closed:
                break
            self._drop_abandoned()
        return done, waiting

    def _admit(self, arrived: list[_Request]) -> list[_Request]:
        """Gives each request a slot; returns those that must wait for a prefix, a slot or room.

        When there is no room for one, later ones do not overtake it: a long request would starve.
        """
        self._drop_abandoned()
        waiting: list[_Request] = []
        crowded = False
        for request in arrived:
            if request.future.done():
                continue
            placement = None if crowded else self._cache.place(request.sequence)
            crowded = crowded or self._cache.books.crowded
            if placement is None:
                waiting.append(request)
            else:
                request.slot = placement.slot
                self._decoding.append(request)
        return waiting

    def _groups(self) -> list[list[_Request]]:
        """Returns the rows that share a forward pass, grouped so that a long prefill does not pad all others."""
        if self._block is not None:
            return [[request] for request in self._decoding]
        counts = {id(request): self._cache.pending(request.slot) for request in self._decoding}
        groups: list[list[_Request]] = []
        total = 0
        for request in sorted(self._decoding, key=lambda request: counts[id(request)]):
            count = counts[id(request)]
            if groups and count * (len(groups[-1]) + 1) - total - count <= max(_PADDING, total // 4):
                groups[-1].append(request)
                total += count
            else:
                groups.append([request])
                total = count
        return groups

    def _leave(self, done: list[_Request]) -> None:
        """Frees the rows that are complete."""
        ended = {id(request) for request in done}
        for request in done:
            self._cache.free(request.slot, keep=not request.broken)
        self._decoding = [request for request in self._decoding if id(request) not in ended]

    def _write_down(self, waiting: list[_Request]) -> bool:
        """Stores the drawn tokens; rows without room wait, then continue where they were. Returns whether there are any."""
        kept: list[_Request] = []
        for request in self._decoding:
            if self._cache.append(request.slot, request.tokens[-1]):
                kept.append(request)
            else:
                self._cache.free(request.slot)
                waiting.insert(0, request)
        self._decoding = kept
        return bool(waiting)

    def _drop_abandoned(self) -> None:
        """Frees the rows of cancelled requests; each is checked only once, as one may be cancelled at any moment."""
        kept: list[_Request] = []
        for request in self._decoding:
            if request.future.done():
                self._cache.free(request.slot)
            else:
                kept.append(request)
        self._decoding = kept

    def _draw(self, rows: list[_Request]) -> list[_Request]:
        """Draws one token for each row; returns the rows that are complete."""
        slots = [request.slot for request in rows]
        self.prefilled_tokens += sum(map(self._cache.pending, slots))
        if self._block is None:
            logits_BV = self._forward(self._cache.begin(slots, self.device, self.model.dtype))
        else:
            while self._cache.pending(slots[0]):
                logits_BV = self._forward(self._cache.begin_block(slots[0], self._block, self.device, self.model.dtype))
        if any(request.params.temperature not in (0.0, 1.0) for request in rows):
            temperatures = [request.params.temperature or 1.0 for request in rows]
            logits_BV = logits_BV / torch.tensor(temperatures, dtype=logits_BV.dtype, device=self.device)[:, None]
        logp_BV = torch.log_softmax(logits_BV, dim=-1)
        p_BV = logp_BV.exp()
        entropy_B = -torch.linalg.vecdot(p_BV, logp_BV.clamp(min=torch.finfo(logp_BV.dtype).min))
        token_B = self._pick(rows, logp_BV, p_BV)
        chosen_B = logp_BV.gather(1, token_B[:, None])[:, 0]
        drawn_3B = torch.stack([token_B.double(), chosen_B.double(), entropy_B.double()]).tolist()  # one transfer
        done = []
        for request, token, logprob, entropy in zip(rows, *drawn_3B, strict=True):
            request.tokens.append(int(token))
            request.logprobs.append(logprob)
            request.entropies.append(entropy)
            request.broken = not (math.isfinite(logprob) and math.isfinite(entropy))
            request.stopped = self._is_stopped(request)
            if request.broken or request.stopped or len(request.tokens) >= request.params.max_tokens:
                done.append(request)
        return done

    def _forward(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Returns the logits after the last token of each row, [B, V]; keys and values go to the cache."""
        last_B = inputs.pop("last_B")
        where = (torch.arange(len(last_B), device=self.device), last_B)
        return self._logits(where, **inputs, past_key_values=self._cache, use_cache=True)

    def _pick(self, rows: list[_Request], logp_BV: torch.Tensor, p_BV: torch.Tensor) -> torch.Tensor:
        """Returns one token per row: the inverse of the cumulative distribution at u(seed, position)."""
        seeds_B = np.array([request.seed for request in rows], dtype=np.uint64)
        positions_B = np.array([request.offset + len(request.tokens) for request in rows], dtype=np.uint64)
        u_B = torch.from_numpy(uniforms(seeds_B, positions_B)).to(self.device)
        cumulative_BV = p_BV.cumsum(-1, dtype=torch.float64)
        token_B = torch.searchsorted(cumulative_BV, (u_B * cumulative_BV[:, -1])[:, None], right=True)[:, 0]
        token_B = token_B.clamp(max=self.vocabulary_size - 1)
        if all(request.params.temperature for request in rows):
            return token_B
        greedy_B = torch.tensor([request.params.temperature == 0.0 for request in rows], device=self.device)
        return torch.where(greedy_B, logp_BV.argmax(-1), token_B)

    def _is_stopped(self, request: _Request) -> bool:
        """Whether the action is complete; tokens sampled before this call count, so stops match across the seam."""
        if request.tokens[-1] in request.params.stop_tokens:
            return True
        if not request.params.stop:
            return False
        action = [*request.context[len(request.context) - request.offset :], *request.tokens]
        return self._stops.completed(action, request.params.stop)

    def _budget(self, cache_tokens: int | None, slots: int) -> int:
        """Returns the size of the pool, in tokens."""
        each = bytes_per_token(self.model)
        if cache_tokens is None:
            return max(self.context_length, min(slots * self.context_length, _DEFAULT_CACHE_BYTES // each))
        if cache_tokens < self.context_length:
            raise ConfigError(
                f"cache_tokens={cache_tokens} cannot hold one context of {self.context_length} tokens; give more."
            )
        return cache_tokens


class _InProcess:
    """Takes weights to a model in this process: they are copied into its own."""

    def __init__(self, policy: LocalPolicy) -> None:
        self._policy = policy

    async def init(self) -> None:
        """Needs nothing."""

    async def start(self) -> None:
        await self._policy._between_rounds(self._policy._require_idle, "Weights were loaded")

    async def update(self, weights: Mapping[str, Any]) -> None:
        require_names(weights, self._policy.model.state_dict())
        await self._policy._between_rounds(self._policy.model.load_state_dict, weights)

    async def finish(self, version: int) -> None:
        await self._policy.forget()
        self._policy.version = version


def _deliver(request: _Request, version: int) -> None:
    if request.future.done():
        return
    if request.broken:
        request.future.set_exception(
            NoNumber(
                f"After {len(request.context) + len(request.tokens) - 1} tokens the model gives no probabilities: token "
                f"{request.tokens[-1]} has the log-probability {request.logprobs[-1]}. Are its weights finite?"
            )
        )
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
