"""Tokenizers of chat-model families, built on the spot: byte-level BPE, each family's added tokens, its own template.

The templates come from the files of the `trl` wheel, which is not imported.
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEXT = """\
user assistant system tool ipython {"name": "search", "arguments": {"query": "Köln"}} {"parameters": {"query": 49}}
<tool_call>{"name"}</tool_call> <result>Germany</result> <search>Bonn</search> <answer>Euro</answer>\n\n
The calling code of Germany is 49. Köln is in Germany.\n  \n\tYou may call these tools:\n\n\n
"""
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""SmolLM2's own; that of other models is the same without its words."""
_QWEN = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
_IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>")
_HEADER = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>")


@dataclass(frozen=True)
class Family:
    """What is special about a family's tokenizer.

    Args:
        template: a file of the `trl` wheel, without its ending; "" for `CHATML`.
        special: control tokens; the last one is the end of text.
        added: added tokens that are not special.
        bos: its beginning of text, "" for none.
    """

    template: str
    special: tuple[str, ...]
    added: tuple[str, ...] = ()
    bos: str = ""


FAMILIES = {
    "qwen2.5": Family("qwen2_5", _IM, _QWEN[:2]),
    "qwen2.5-training": Family("qwen2_5_training", _IM, _QWEN[:2]),
    "qwen3": Family("qwen3", _IM, _QWEN),
    "qwen3-training": Family("qwen3_training", _IM, _QWEN),
    "qwen3-2507": Family("qwen3_instruct_2507", _IM, _QWEN),
    "qwen3.5": Family("qwen3_5_think", _IM, _QWEN),
    "qwen3.5-training": Family("qwen3_5_think_training", _IM, _QWEN),
    "llama3": Family("llama3", (*_HEADER, "<|python_tag|>", "<|eot_id|>"), bos="<|begin_of_text|>"),
    "llama3.1": Family("llama3_1", (*_HEADER, "<|python_tag|>", "<|eot_id|>"), bos="<|begin_of_text|>"),
    "llama3.2": Family("llama3_2", (*_HEADER, "<|python_tag|>", "<|eot_id|>"), bos="<|begin_of_text|>"),
    "phi3": Family("phi3", ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>")),
    "gemma": Family("gemma", ("<bos>", "<start_of_turn>", "<end_of_turn>", "<eos>"), bos="<bos>"),
    "gemma3": Family("gemma3", ("<bos>", "<start_of_turn>", "<end_of_turn>", "<eos>"), bos="<bos>"),
    "smollm2": Family("", _IM),
    "r1-distill": Family("deepseek_r1_distill", _DEEPSEEK, _QWEN[4:], bos=_DEEPSEEK[0]),
    "r1-distill-training": Family("deepseek_r1_distill_training", _DEEPSEEK, _QWEN[4:], bos=_DEEPSEEK[0]),
}


def shipped_template(name: str) -> str:
    """Returns a chat template of the `trl` wheel."""
    found = find_spec("trl")
    if found is None or found.origin is None:
        pytest.skip("the trl wheel is not installed: pip install --no-deps trl==1.16.0")
    return (Path(found.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def chat_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """Returns a tokenizer with a family's added tokens, normalisation as Qwen's and words as Llama's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in dict.fromkeys(family.special)])
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in family.added])
    marks = {"eos_token": family.special[-1]} | ({"bos_token": family.bos} if family.bos else {})
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks)
    wrapped.chat_template = shipped_template(family.template) if family.template else CHATML
    return wrapped


@cache
def family_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Returns the tokenizer of a family; do not change it."""
    return chat_tokenizer(FAMILIES[name])
