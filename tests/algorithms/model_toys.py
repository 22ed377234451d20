"""Tiny random models and a tokenizer, made on the spot."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from algorithms.learner.state import describe, read


def byte_tokenizer(*, bos: bool = False, chat: bool = False) -> PreTrainedTokenizerFast:
    """Returns a byte-level tokenizer with a few merges, an end of text and an unnamed control token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("s", "e"), ("c", "o"), ("co", "u"), ("n", "t"), ("cou", "nt"), (">", "<")]
    words = [*alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<|bos|>", "<|eos|>", "<|header|>")])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|bos|> $A", special_tokens=[("<|bos|>", tokenizer.token_to_id("<|bos|>"))]
        )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|bos|>", eos_token="<|eos|>")
    if chat:
        wrapped.chat_template = (
            "{% for m in messages %}<|header|>{{ m['role'] }}\n{{ m['content'] }}<|eos|>{% endfor %}"
            "{% if add_generation_prompt %}<|header|>assistant\n{% endif %}"
        )
    return wrapped


_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.3, "tie_word_embeddings": False}
_FAMILIES: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "cohere": (CohereConfig, CohereForCausalLM),
    "gpt2": (GPT2Config, GPT2LMHeadModel),
}


def tiny_model(
    family: str = "llama", *, vocabulary: int = 265, seed: int = 0, dtype: torch.dtype = torch.float32, **options: Any
) -> Any:
    """Returns a random model whose distributions are neither flat nor certain, the same in every precision.

    `transformers` computes norms and the angles of rotary positions in float32 even if the model is in float64. Then what
    differs by 1e-16 is mostly rounded to the same, and now and then to 1e-8; so float64 has norms and angles of its own.
    """
    config, model = _FAMILIES[family]
    shape = _GPT2 if family == "gpt2" else _SMALL | ({"head_dim": 8} if family == "qwen3" else {})
    torch.manual_seed(seed)
    made = model(config(vocab_size=vocabulary, **(shape | options))).eval().to(dtype)
    return _in_float64(made) if dtype == torch.float64 else made


class _Rotary(torch.nn.Module):
    """The angles of rotary positions, in the precision of the model."""

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        assert theirs.rope_type == "default"
        self.scaling = theirs.attention_scaling
        self.register_buffer("inv_freq", theirs.inv_freq.double(), persistent=False)

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = position_ids[..., None] * self.inv_freq
        angles = torch.cat((angles, angles), -1)
        return angles.cos() * self.scaling, angles.sin() * self.scaling


def _in_float64(model: Any) -> Any:
    for name, module in list(model.named_modules()):
        if type(module).__name__.endswith("RMSNorm"):
            norm = torch.nn.RMSNorm(module.weight.shape, eps=module.variance_epsilon, dtype=torch.float64)
            norm.load_state_dict(module.state_dict())
            model.set_submodule(name, norm)
        elif type(module).__name__.endswith("RotaryEmbedding"):
            model.set_submodule(name, _Rotary(module))
    return model


def stored_state(folder: Path) -> dict[str, torch.Tensor]:
    """Returns all that a learner saved."""
    found = {name: torch.zeros(it.shape, dtype=it.dtype) for name, it in describe(folder).items()}
    read(folder, found)
    return found


def written_in(folder: Path) -> dict[str, Any]:
    """Returns what the files of a checkpoint hold, by name: bytes, but of safetensors the header, whose order is random, read.

    The manifest has checksums of all that.
    """
    found: dict[str, Any] = {}
    for file in folder.rglob("*"):
        if file.suffix == ".safetensors":
            block = file.read_bytes()
            end = 8 + int.from_bytes(block[:8], "little")
            found[file.relative_to(folder).as_posix()] = (json.loads(block[8:end]), block[end:])
        elif file.is_file() and file.name != "manifest.json":
            found[file.relative_to(folder).as_posix()] = file.read_bytes()
    return found
