"""A policy that draws with vLLM's asynchronous engine, in a separate process; tokens in, tokens out.

Weights reach the engine through a folder: that works for every model and device vLLM supports; `transfer_sync.py` has vLLM's
own transfer. `served.py` is the counterpart for an engine that was started elsewhere.
"""

import asyncio
import itertools
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from arpo_envs import ConfigError

from .. import seeds
from . import Generation, Sampling, require_request
from .entropies import entropy_bounds
from .export import export_weights, is_tied, model_config
from .stopping import StopStrings
from .vllm_owner import engine_processes
from .weight_sync import Delivery, WeightSync

_CPU_BLOCK = 32
"""Tokens in a block of keys, the unit in which prefixes are shared; on a CPU a multiple of 32, and 128 by default."""
_CPU_CACHE_BYTES = 2 << 30
_EXTENSION = f"{__package__}.vllm_ending.Extension"
_RESET_TRIES = 100
_RESET_PAUSE = 0.02
"""Seconds between tries to drop the prefix cache: the engine may still be releasing aborted requests."""


@dataclass
class _Drawn:
    """One generation in progress; `before` holds the tokens of the action that its context ends with."""

    before: list[int]
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    finish: Literal["", "stop", "length"] = ""


class VLLMPolicy:
    """Draws from a model folder with vLLM.

    What it promises, besides the contract of `Policy`:

    - the draws of a request depend on its seed, but a probe and its continuation do not equal one call: vLLM counts
      draws per request, so a continuation draws from a seed derived from (seed, offset);
    - a result may depend on the batch it was computed in, by as much as the numbers of two kernels differ;
    - entropies are the middle of their bounds given the `top_logprobs` likeliest tokens (`entropies.entropy_bounds`), and
      `entropy_error` says how far off the worst one so far may have been. If the vocabulary is that small, they are exact.

    Log-probabilities are those of the distribution that was drawn from, at the temperature. Stop strings are matched
    here, in all tokens of the action: vLLM would match within one request. A cancelled request is aborted. Prefixes
    are cached, so a fork or a continuation recomputes at most one block of its context.

    Args:
        folder: Hugging Face model folder. A tied model is untied first: see `export`.
        tokenizer: its tokenizer, to find stop strings.
        context_length: longest sequence in tokens; at most as many as the model has positions.
        dtype: to run in: "float32", "bfloat16" or "float16".
        top_logprobs: how many of the likeliest tokens the entropies are computed from.
        cache_bytes: memory for keys; by default 2 GiB on a CPU, and what vLLM takes on a GPU.
        colocated: the learner shares the GPU: `sleep` frees the engine's memory, and `load` wakes it with new weights.
            Follows vLLM's documentation; it was not run here, for lack of a GPU.
        exchange: folder for weights on their way to the engine, which must see it under the same name; one in memory is
            fastest. By default a temporary one.
        options: more arguments of `vllm.AsyncEngineArgs`, e.g. {"tensor_parallel_size": 2}. With a `worker_extension_cls` of
            your own, the engine's processes may outlive this one if it is killed; derive it from `vllm_ending.Extension`.
        sync: makes the way for weights to the engine, by default through `exchange`; see `transfer_sync.through_ipc`.

    Raises:
        ConfigError: vLLM is not installed, `folder` holds no model, or the platform cannot sleep.
    """

    def __init__(
        self,
        folder: Path,
        tokenizer: Any,
        *,
        context_length: int = 4096,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        top_logprobs: int = 20,
        cache_bytes: int | None = None,
        colocated: bool = False,
        exchange: Path | None = None,
        options: Mapping[str, Any] | None = None,
        sync: "Callable[[VLLMPolicy], WeightSync] | None" = None,
    ) -> None:
        require_vllm()
        import torch

        self.folder, self.dtype = Path(folder), getattr(torch, dtype)
        """What it was made from."""
        config = model_config(self.folder)
        self._temporary = tempfile.TemporaryDirectory(prefix="arpo-vllm-") if exchange is None else None
        self._exchange = Path(self._temporary.name) if self._temporary is not None else Path(str(exchange))
        try:
            model = export_weights(self.folder, None, self._exchange, dtype=self.dtype) if is_tied(config) else self.folder
            self.context_length = min(context_length, _positions(model, context_length))
            wanted = _arguments(model, self.context_length, dtype, top_logprobs, cache_bytes, colocated, options or {})
            self.engine = _started(wanted, None if self._temporary is None else self._exchange)
            """vLLM's own `AsyncLLM`."""
        except BaseException:
            self._tidy()
            raise
        self.vocabulary_size = int(self.engine.model_config.get_vocab_size())
        self.at_once = int(self.engine.vllm_config.scheduler_config.max_num_seqs)
        self.version = 0
        self.entropy_error = 0.0
        """The most, in nats, by which an entropy reported so far may be wrong."""
        self.prefilled_tokens = 0
        """Tokens of contexts computed so far: what prefix reuse keeps small."""
        self._top = min(top_logprobs, self.vocabulary_size)
        self._colocated = colocated
        self._stops = StopStrings(tokenizer)
        self._names = (f"arpo-{number}" for number in itertools.count())
        self._under_way: set[asyncio.Task[Generation]] = set()
        self._delivery = Delivery((sync or ThroughFolder)(self))
        self._state: Literal["awake", "asleep", "closed"] = "awake"

    async def generate(
        self, context: Sequence[int], params: Sampling, *, seed: int, offset: int = 0, tail: str = ""
    ) -> Generation:
        """Continues `context`; see `Policy.generate`.

        Raises:
            ConfigError: see `require_request`.
            HalfUpdated: the last weights did not arrive whole.
            RuntimeError: the policy was closed, or is asleep.
        """
        require_request(self, context, params)
        await self._delivery.whole()
        self._require_awake()
        task = asyncio.create_task(self._draw(context, params, seed, offset))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is None or not current.cancelling():
                self._require_awake()  # `close` cancelled it, not the caller
            raise

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Loads a state dict of the `transformers` model; keys computed with the old weights are dropped.

        Wakes the engine if it sleeps.

        Raises:
            ConfigError: the weights are not this model's.
            RuntimeError: generations are in progress, or the policy was closed.
        """
        await self._delivery.send(weights, version)

    async def sleep(self) -> None:
        """Frees the GPU for the learner until the next `load`; nothing happens unless `colocated`.

        The weights are dropped, not moved to CPU memory (level 2): the next ones come with `load`.

        Raises:
            RuntimeError: generations are in progress, or the policy was closed.
        """
        if not self._colocated or self._state == "asleep":
            return
        async with self._delivery.lock:
            self._require_idle("The engine was put to sleep")
            await self.engine.sleep(level=2)
            self._state = "asleep"

    async def forget(self) -> None:
        """Drops the cache of past tokens.

        Raises:
            RuntimeError: generations are in progress, or the policy was closed.
        """
        async with self._delivery.lock:
            self._require_idle("Keys were dropped")
            await self._forget()

    async def close(self) -> None:
        """Ends the engine's process, also if this is cancelled meanwhile; generations in progress fail."""
        if self._state == "closed":
            return
        self._state = "closed"
        try:
            for task in self._under_way:  # the engine aborts what it knows of, which a request that is only being added is not
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)
        finally:
            if self.engine.output_handler is not None:  # or it reports the end of the engine's process as an error
                self.engine.output_handler.cancel()
            try:
                await asyncio.to_thread(self.engine.shutdown)
            finally:
                self.engine = None  # its destructor must not run while the interpreter exits
                self._tidy()

    def _tidy(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()

    # --- one request ----------------------------------------------------------------------------------

    async def _draw(self, context: Sequence[int], params: Sampling, seed: int, offset: int) -> Generation:
        drawn, name = _Drawn(list(context[len(context) - offset :])), next(self._names)
        stream: AsyncGenerator[Any, None] = self.engine.generate(
            {"prompt_token_ids": list(context)}, self._sampling(params, seed, offset), name
        )
        try:
            async with aclosing(stream):  # leaving it early aborts the request
                async for output in stream:
                    if not drawn.tokens and output.outputs[0].token_ids:
                        self.prefilled_tokens += len(context) - (output.num_cached_tokens or 0)
                    self._take(output.outputs[0], drawn, params)
                    if drawn.finish:
                        break
        except asyncio.CancelledError:
            await self.engine.abort(name)  # the stream does not abort what it is only adding
            raise
        if not drawn.finish:
            raise RuntimeError("The engine aborted the request.")
        return Generation(tuple(drawn.tokens), tuple(drawn.logprobs), tuple(drawn.entropies), drawn.finish, self.version)

    def _sampling(self, params: Sampling, seed: int, offset: int) -> Any:
        """Returns how vLLM is to draw: from the whole distribution, and stop at stop tokens only."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            max_tokens=params.max_tokens,
            temperature=params.temperature,
            stop_token_ids=list(params.stop_tokens),
            seed=seeds.derive(seed, "continuation", offset) if offset else seed,
            logprobs=self._top,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA if params.stop else RequestOutputKind.FINAL_ONLY,
        )

    def _take(self, output: Any, drawn: _Drawn, params: Sampling) -> None:
        """Takes new tokens up to the one that completes the action; sets `finish` if it is over."""
        for token, known in zip(output.token_ids, output.logprobs or (), strict=True):
            drawn.tokens.append(token)
            drawn.logprobs.append(known[token].logprob)
            bounds = entropy_bounds([one.logprob for one in known.values()], self._top, self.vocabulary_size)
            drawn.entropies.append(bounds.middle)
            self.entropy_error = max(self.entropy_error, (bounds.most - bounds.least) / 2)
            if token in params.stop_tokens or self._stops.completed([*drawn.before, *drawn.tokens], params.stop):
                drawn.finish = "stop"
                return
        if len(drawn.tokens) >= params.max_tokens:
            drawn.finish = "length"

    # --- the engine -----------------------------------------------------------------------------------

    def _require_awake(self) -> None:
        if self._state == "closed":
            raise RuntimeError("The policy was closed.")
        if self._state == "asleep":
            raise RuntimeError("The engine is asleep, without weights. Load weights to wake it.")

    def _require_idle(self, what: str) -> None:
        if self._state == "closed":
            raise RuntimeError("The policy was closed.")
        if self._under_way:
            raise RuntimeError(f"{what} while generations were in progress; await them first.")

    async def _forget(self) -> None:
        """Drops the keys of the old weights.

        Raises:
            RuntimeError: the engine keeps some.
        """
        for _ in range(_RESET_TRIES):
            if await self.engine.reset_prefix_cache():
                return
            await asyncio.sleep(_RESET_PAUSE)
        raise RuntimeError("vLLM did not drop its prefix cache, which holds keys of the old weights.")


class ThroughFolder:
    """Takes weights to vLLM through a folder, from which it loads them as it did its first ones.

    Other ways (`transfer_sync`) differ in `init` and `update`.

    Args:
        policy: of the engine.
    """

    def __init__(self, policy: VLLMPolicy) -> None:
        self.policy = policy

    async def init(self) -> None:
        """Needs nothing: the first weights make the folder."""

    async def start(self) -> None:
        """Requires that nothing is drawn."""
        self.policy._require_idle("Weights were loaded")

    async def update(self, weights: Mapping[str, Any]) -> None:
        """Writes the weights, and has vLLM read them."""
        policy = self.policy
        await asyncio.to_thread(export_weights, policy.folder, weights, policy._exchange, dtype=policy.dtype)
        await self.wake("weights")
        await policy.engine.collective_rpc("reload_weights", kwargs={"weights_path": str(policy._exchange)})

    async def wake(self, what: str) -> None:
        """Gives a sleeping engine the memory for its "weights" or its "kv_cache" back."""
        if self.policy._state == "asleep":
            await self.policy.engine.wake_up(tags=[what])

    async def finish(self, version: int) -> None:
        """Drops the keys of the old weights."""
        policy = self.policy
        if policy._state == "asleep":
            await self.wake("kv_cache")
            policy._state = "awake"
        await policy._forget()
        policy.version = version


def require_vllm() -> None:
    """Checks that vLLM can be imported.

    Raises:
        ConfigError: it cannot.
    """
    try:
        from vllm import AsyncEngineArgs  # noqa: F401  # a folder called vllm may be importable too
    except ImportError as error:
        raise ConfigError("vLLM is not installed, or cannot be imported: pip install 'arpo-envs[vllm]'") from error


def _arguments(
    model: Path,
    context_length: int,
    dtype: str,
    top_logprobs: int,
    cache_bytes: int | None,
    colocated: bool,
    options: Mapping[str, Any],
) -> Any:
    """Returns vLLM's `AsyncEngineArgs`.

    Raises:
        ConfigError: an option is unknown, or the platform cannot sleep.
    """
    from vllm import AsyncEngineArgs
    from vllm.platforms import current_platform

    if colocated and not current_platform.is_sleep_mode_available():
        raise ConfigError(
            f"vLLM cannot sleep on {current_platform.device_type}, so it cannot share the device. Leave out colocated."
        )
    arguments: dict[str, Any] = {
        "model": str(model),
        "dtype": dtype,
        "max_model_len": context_length,
        "skip_tokenizer_init": True,
        "generation_config": "vllm",  # no sampling settings of the model's own
        "logprobs_mode": "processed_logprobs",
        "max_logprobs": top_logprobs,
        "enable_prefix_caching": True,
        "enable_sleep_mode": colocated,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "worker_extension_cls": _EXTENSION,
    }
    if current_platform.is_cpu():
        # With a prompt in chunks a seeded request kills the engine there: "CPU Generator does not use offset" (vLLM 0.32).
        arguments |= {"block_size": _CPU_BLOCK, "kv_cache_memory_bytes": _CPU_CACHE_BYTES, "enable_chunked_prefill": False}
    if cache_bytes is not None:
        arguments["kv_cache_memory_bytes"] = cache_bytes
    try:
        return AsyncEngineArgs(**(arguments | dict(options)))
    except TypeError as error:
        raise ConfigError(f"vLLM does not take these options: {error}") from error


def _started(arguments: Any, temporary: Path | None) -> Any:
    """Returns a running engine, see `engine_processes`; this takes ten seconds or more."""
    from vllm.v1.engine.async_llm import AsyncLLM

    with engine_processes(temporary):
        return AsyncLLM.from_engine_args(arguments)


def _positions(folder: Path, default: int) -> int:
    """Returns how many positions a model has."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or default)
