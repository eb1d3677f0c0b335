"""A memory as a GGUF adapter, which llama.cpp takes, and what is built on it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lorary.bank.files import BankError, write_aside
from lorary.bank.memory import Memory

if TYPE_CHECKING:
    from gguf import TensorNameMap
    from transformers import PreTrainedConfig

ARCHITECTURES = {"llama": "llama", "mistral": "llama"}
"""`model_type` of a base → the architecture that llama.cpp has it as."""
_HEADS = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
"""Linears whose rows llama.cpp has in another order → the number of their heads."""


def check_gguf(memory: Memory, config: PreTrainedConfig) -> None:
    """Raises BankError for a memory of a base that is not built as Llama, or of a linear that llama.cpp has no name for."""
    if config.model_type not in ARCHITECTURES:
        raise BankError(
            f"memory {memory.name!r} is for a base of type {config.model_type!r}; adapters for {[*ARCHITECTURES]} can be "
            "written; its folder in the bank is a stock PEFT adapter, which llama.cpp's own convert_lora_to_gguf.py takes"
        )
    names = _names(config)
    for path in memory.paths:
        if names.get_name(_from_model(path)) is None:
            raise BankError(f"memory {memory.name!r} adapts {path}, for which llama.cpp has no name")


def write_gguf(memory: Memory, file: Path, config: PreTrainedConfig) -> Path:
    """Writes a memory's adapter as a GGUF file, in fp32; returns `file`, which is replaced at once, whole.

    llama.cpp scales the product of the factors by alpha / rank, as PEFT does. Alpha is the greatest rank here, and what else a
    linear is scaled by is folded into B.

    Args:
        config: of the base's language model.

    Raises:
        BankError: what `check_gguf` refuses.
        ModuleNotFoundError: the package gguf is not installed.
    """
    import gguf

    check_gguf(memory, config)
    names, factors = _names(config), memory.factors()
    alpha = max(len(down) for down, _ in factors.values())
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "adapter.gguf"
        writer = gguf.GGUFWriter(written, ARCHITECTURES[config.model_type])
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_name(memory.name)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(alpha))
        for path, (down, up) in factors.items():
            name = names.get_name(_from_model(path))
            writer.add_tensor(f"{name}.weight.lora_a", down.float().contiguous().numpy())
            writer.add_tensor(f"{name}.weight.lora_b", in_pairs(path, up * (len(down) / alpha), config))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        write_aside(file, written.read_bytes())
    return file


def _names(config: PreTrainedConfig) -> TensorNameMap:
    """llama.cpp's names of a base's tensors."""
    import gguf

    architecture = ARCHITECTURES[config.model_type]
    [number] = [number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture]
    return gguf.get_tensor_name_map(number, config.num_hidden_layers)


def _from_model(path: str) -> str:
    """The path of a linear as a plain language model has it: `model.layers.0.mlp.up_proj`."""
    return re.sub(r"^.*?(layers\.\d+\.)", r"model.\1", path)


def in_pairs(path: str, up: Float[Tensor, "d_out rank"], config: PreTrainedConfig) -> np.ndarray:
    """A linear's B with its rows as llama.cpp has them: what rotary embeddings turn together lies side by side there, and half a
    head apart in transformers."""
    values = up.float().numpy()
    kind = path.rpartition(".")[2]
    if kind in _HEADS:
        apart = values.reshape(getattr(config, _HEADS[kind]), 2, -1, values.shape[1])
        values = apart.swapaxes(1, 2).reshape(values.shape)
    return np.ascontiguousarray(values)
