"""A memory as an adapter of mlx-lm, which runs on Apple's processors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save
from torch import Tensor

from lorary.bank.adapters import CONFIG
from lorary.bank.files import BankError, to_json, write_aside
from lorary.bank.memory import Memory
from lorary.bank.one_rank import greatest_rank, of_one_rank

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

LAYERS = dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3"), "model.layers") | {
    "gpt_neox": "model.h"
}
"""`model_type` of a base → where mlx-lm has its decoder layers."""
_IN_LAYER = re.compile(r".*?layers\.(\d+)\.(.+)")
_WEIGHTS = "adapters.safetensors"


def check_mlx(memory: Memory, config: PreTrainedConfig) -> None:
    """Raises BankError where mlx-lm does not have the layers of the memory's base as they are known here."""
    if config.model_type not in LAYERS:
        raise BankError(
            f"memory {memory.name!r} is for a base of type {config.model_type!r}; adapters of mlx-lm can be written for "
            f"{[*LAYERS]}; its folder in the bank is a stock PEFT adapter, which PEFT itself loads"
        )


def write_mlx(memory: Memory, folder: Path, config: PreTrainedConfig, base: str) -> Path:
    """Writes a memory's adapter as mlx-lm loads one (`--adapter-path`), in fp32; returns `folder`.

    mlx-lm gives every linear of a name one rank and one scale, in the last `num_layers` layers. So the factors have one rank, and
    the scale is 1. Where the memory has no factors, mlx-lm's own B is zero.

    Args:
        config: of the base.
        base: its name, as mlx-lm is to load it.

    Raises:
        BankError: a base that mlx-lm has otherwise than is known here.
    """
    check_mlx(memory, config)
    factors, names, lowest = of_one_rank(memory), set[str](), config.num_hidden_layers
    tensors = dict[str, Tensor]()
    for path, (a, b) in factors.items():
        match = _IN_LAYER.fullmatch(path)
        assert match is not None, "a memory adapts linears of decoder layers"
        layer, name = int(match[1]), match[2]
        stem = f"{LAYERS[config.model_type]}.{layer}.{name}"
        tensors |= {f"{stem}.lora_a": a.T.contiguous(), f"{stem}.lora_b": b.T.contiguous()}
        names.add(name)
        lowest = min(lowest, layer)
    settings = {
        "fine_tune_type": "lora",
        "model": base,
        "num_layers": config.num_hidden_layers - lowest,
        "lora_parameters": {"rank": greatest_rank(factors), "scale": 1.0, "dropout": 0.0, "keys": sorted(names)},
    }
    write_aside(folder / _WEIGHTS, save(tensors))
    write_aside(folder / CONFIG, to_json(settings))
    return folder
