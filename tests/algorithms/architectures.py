"""A zoo of tiny random language models, one or a few of many families of `transformers`.

`ARCHITECTURES` maps a name, which is the model type and perhaps a variant behind a dash, to what makes such a model: in float32
and eval mode, the same every time, and without a trace in the global random state. All know 265 tokens and take 128 and more at
a time. Layers that attend to a window or a chunk have one of 32 tokens. Where a family scales or caps its logits, this is far
from doing nothing, so that whoever forgets it is found out.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText

# Each family takes what it knows of these, some under names of their own.
_SMALL: dict[str, Any] = {
    "vocab_size": 265,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 262,
    "eos_token_id": 263,
    "pad_token_id": None,
}
_WINDOW: dict[str, Any] = {"sliding_window": 32}
_ALTERNATING = _WINDOW | {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}
_QWEN_WINDOW = _WINDOW | {"use_sliding_window": True, "num_hidden_layers": 4, "max_window_layers": 2}
_EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_GEMMA = {"query_pre_attn_scalar": 8}
_LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
}
_STATES = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_d_state": 16, "mamba_chunk_size": 16}
_SIGHT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 28}


def _rope(kind: str, **options: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **options}}


_LLAMA3 = _rope("llama3", factor=8.0, original_max_position_embeddings=64, low_freq_factor=1.0, high_freq_factor=4.0)
_YARN = _rope("yarn", factor=4.0, original_max_position_embeddings=64)

# The model type, and what differs from the sizes above.
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-linear-rope": ("llama", _rope("linear", factor=2.0)),
    "llama-dynamic-rope": ("llama", {"max_position_embeddings": 48} | _rope("dynamic", factor=2.0)),
    "llama-yarn": ("llama", _YARN),
    "llama4-text": (
        "llama4_text",
        _EXPERTS
        | {"num_hidden_layers": 4, "no_rope_layer_interval": 2, "attention_chunk_size": 32, "interleave_moe_layer_step": 2}
        | {"intermediate_size_mlp": 48, "floor_scale": 32},
    ),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral-window": ("mistral", _WINDOW),
    "ministral": ("ministral", _ALTERNATING),
    "mixtral": ("mixtral", _EXPERTS),
    "mixtral-window": ("mixtral", _EXPERTS | _WINDOW),
    "phi": ("phi", {}),
    "phi3": ("phi3", {}),
    "phi3-window": ("phi3", _WINDOW),
    "phi3-longrope": (
        "phi3",
        {"original_max_position_embeddings": 48}
        | _rope("longrope", factor=256 / 48, short_factor=[1.0, 1.0, 1.1, 1.2], long_factor=[1.0, 2.0, 4.0, 8.0]),
    ),
    "qwen2": ("qwen2", {}),
    "qwen2-window": ("qwen2", _QWEN_WINDOW),
    "qwen2-5-vl": (
        "qwen2_5_vl",
        {"text_config": _SMALL | _rope("default", mrope_section=[1, 1, 2])}
        | {"vision_config": {"hidden_size": 32, "intermediate_size": 48, "depth": 1, "num_heads": 4, "out_hidden_size": 32}},
    ),
    "qwen3": ("qwen3", {}),
    "qwen3-moe": ("qwen3_moe", _EXPERTS),
    "qwen3-moe-window": ("qwen3_moe", _EXPERTS | _WINDOW | {"use_sliding_window": True}),
    "qwen3-next": (
        "qwen3_next",
        _EXPERTS
        | {"num_hidden_layers": 4, "shared_expert_intermediate_size": 24, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
        | {"linear_num_key_heads": 2, "linear_num_value_heads": 4},
    ),
    "starcoder2-window": ("starcoder2", _WINDOW),
    "gemma": ("gemma", {}),
    "gemma2": ("gemma2", _ALTERNATING | _GEMMA | {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 5.0}),
    "gemma3-text": ("gemma3_text", _ALTERNATING | _GEMMA),
    "gemma3": ("gemma3", {"text_config": _SMALL | _ALTERNATING | _GEMMA, "vision_config": _SIGHT | {"patch_size": 7}}),
    "gemma3n-text": (
        "gemma3n_text",
        _ALTERNATING
        | {"num_kv_shared_layers": 2, "vocab_size_per_layer_input": 265}
        | {"hidden_size_per_layer_input": 8, "laurel_rank": 8, "altup_num_inputs": 2, "final_logit_softcapping": 5.0},
    ),
    "recurrent-gemma": ("recurrent_gemma", {"num_hidden_layers": 3, "attention_window_size": 32, "logits_soft_cap": 5.0}),
    "gpt-oss": ("gpt_oss", _EXPERTS | _ALTERNATING | _YARN),
    "gpt2": ("gpt2", {}),
    "gpt-neo": ("gpt_neo", {"attention_types": [[["global", "local"], 2]], "num_hidden_layers": 4, "window_size": 32}),
    "gpt-neox": ("gpt_neox", {}),
    "gptj": ("gptj", {"rotary_dim": 4}),
    "gpt-bigcode": ("gpt_bigcode", {}),
    "codegen": ("codegen", {"rotary_dim": 4}),
    "opt": ("opt", {"dropout": 0.0, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "opt-dropout": ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "bloom": ("bloom", {}),
    "mpt": ("mpt", {"max_seq_len": 256}),
    "falcon-rope": ("falcon", {}),
    "falcon-alibi": ("falcon", {"alibi": True}),
    "falcon-h1": ("falcon_h1", _STATES | {"embedding_multiplier": 2.0, "key_multiplier": 0.7, "lm_head_multiplier": 0.7}),
    "cohere": ("cohere", {"logit_scale": 0.7}),
    "cohere2": ("cohere2", {"logit_scale": 0.7} | _ALTERNATING),
    "olmo": ("olmo", {}),
    "olmo2": ("olmo2", {}),
    "olmo3": ("olmo3", _ALTERNATING),
    "olmoe": ("olmoe", _EXPERTS),
    "granite": (
        "granite",
        {"embedding_multiplier": 2.0, "attention_multiplier": 0.3, "residual_multiplier": 0.7, "logits_scaling": 0.7},
    ),
    "stablelm": ("stablelm", {}),
    "persimmon": ("persimmon", {}),
    # Its norms multiply by 1 more than their weights, which start at 1; the epsilon halves that again.
    "nemotron": ("nemotron", {"norm_eps": 3.0}),
    "smollm3": ("smollm3", {"no_rope_layer_interval": 2}),
    "glm4": ("glm4", {}),
    "exaone4": ("exaone4", _ALTERNATING),
    "ernie4_5": ("ernie4_5", {}),
    "deepseek-v2": ("deepseek_v2", _LATENT),
    "deepseek-v3": ("deepseek_v3", _LATENT | {"n_group": 2, "topk_group": 1}),
    "seed-oss": ("seed_oss", {}),
    "arcee": ("arcee", {}),
    "apertus": ("apertus", _LLAMA3),
    "helium": ("helium", {}),
    "xglm": ("xglm", {"ffn_dim": 48}),
    "biogpt": ("biogpt", {}),
    "ctrl": ("ctrl", {"dff": 48}),
    "llava": (
        "llava",
        {
            "text_config": _SMALL | {"model_type": "llama"},
            "vision_config": _SIGHT | {"model_type": "clip_vision_model", "patch_size": 14},
        },
    ),
    "rwkv": ("rwkv", {}),
    "mamba": ("mamba", {}),
    "mamba2": ("mamba2", {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 16, "chunk_size": 16}),
    "jamba": ("jamba", _EXPERTS | {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1}),
    "lfm2": (
        "lfm2",
        {"num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2, "block_auto_adjust_ff_dim": False},
    ),
    "bamba": ("bamba", _STATES | {"num_hidden_layers": 4, "attn_layer_indices": [1, 3]}),
    "zamba2": (
        "zamba2",
        {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2, "n_mamba_heads": 4, "head_dim": 16}
        | {"mamba_d_state": 16, "chunk_size": 16, "num_mem_blocks": 1, "adapter_rank": 8, "use_mem_rope": True},
    ),
}


def _build(model_type: str, options: dict[str, Any]) -> Any:
    family = CONFIG_MAPPING[model_type]
    known = {field.name for field in dataclasses.fields(family)} | set(family.attribute_map)
    config = family(**({name: value for name, value in _SMALL.items() if name in known} | copy.deepcopy(options)))
    kind: Any = AutoModelForImageTextToText if "vision_config" in options else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = kind.from_config(config, dtype=torch.float32).eval()
        # Families start with weights so small that distributions are flat. What starts at 1, or as a decay, stays near it.
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * (0.3 if parameter.dim() > 1 else 0.1)
    return model


ARCHITECTURES: Mapping[str, Callable[[], Any]] = {name: partial(_build, *family) for name, family in _FAMILIES.items()}
