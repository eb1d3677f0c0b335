"""A pico model with its tokenizer as a GGUF file, as llama.cpp's converter writes one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_NORMAL, _CONTROL = 1, 3
"""Types of tokens."""


def write_gguf(file: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Writes a Llama with a byte-level BPE tokenizer, its linears packed as Q8_0; returns `file`."""
    config, writer = model.config, gguf.GGUFWriter(file, "llama")
    writer.add_name("pico")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer, config.vocab_size)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for path, weight in model.state_dict().items():
        name, values = _gguf_name(path), weight.float().numpy()
        if (kind := name.split(".")[-2]) in heads:  # llama.cpp turns pairs that lie side by side
            apart = values.reshape(heads[kind], 2, -1, values.shape[1])
            values = np.ascontiguousarray(apart.swapaxes(1, 2)).reshape(values.shape)
        if values.ndim == 2:
            packed = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, packed), raw_dtype=packed)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _gguf_name(path: str) -> str:
    """llama.cpp's name of a weight."""
    module = path.removesuffix(".weight")
    if module in _WHOLE:
        return f"{_WHOLE[module]}.weight"
    _, _, layer, inner = module.split(".", 3)
    return f"blk.{layer}.{_NAMES[inner]}.weight"


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase, size: int) -> None:
    tokens = {number: token for token, number in tokenizer.get_vocab().items()}
    special = {*tokenizer.all_special_ids}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([tokens.get(number, f"[PAD{number}]") for number in range(size)])
    writer.add_token_types([_CONTROL if number in special else _NORMAL for number in range(size)])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_chat_template(tokenizer.chat_template)


def llama_cpp(base: Path, adapters: Sequence[Path]) -> Any:
    """llama.cpp's own server within this process, over a base with adapters that a request names by their number."""
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel, options.warmup, options.verbosity = (
        str(base),
        256,
        1,
        False,
        -1,
    )
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    options.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(file), 0.0) for file in adapters]
    return xllamacpp.Server(options)
