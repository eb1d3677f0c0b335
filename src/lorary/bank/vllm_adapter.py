"""Memories as LoRA modules of vLLM: stock PEFT folders that need no more than every version of it knows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save

from lorary.bank.adapters import CONFIG, PREFIX, WEIGHTS
from lorary.bank.files import BankError, to_json, write_aside
from lorary.bank.memory import Memory
from lorary.bank.one_rank import greatest_rank, of_one_rank

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM allows for `--max-lora-rank`."""
AT_ONCE = 8
"""Memories that one batch may need, at most: vLLM keeps room for as many."""
WITHOUT_LORA = ("gpt_neox",)
"""Types of bases that vLLM serves without LoRA modules."""


def check_vllm(memory: Memory, config: PreTrainedConfig) -> None:
    """Raises BankError where vLLM would refuse the memory: a rank above its greatest, or a base without LoRA."""
    rank = greatest_rank(memory.factors())
    if rank > RANKS[-1]:
        raise BankError(
            f"memory {memory.name!r} has rank {rank}, and vLLM takes ranks up to {RANKS[-1]}; write it with a lower rank, "
            "or export it with --to merged"
        )
    if config.model_type in WITHOUT_LORA:
        raise BankError(
            f"memory {memory.name!r} is for a base of type {config.model_type!r}, for which vLLM takes no LoRA modules; "
            "export it with --to merged"
        )


def least_rank(rank: int) -> int:
    """The least rank that vLLM allows which holds `rank`."""
    return next(allowed for allowed in RANKS if allowed >= rank)


def write_vllm(memory: Memory, folder: Path, config: PreTrainedConfig, base: str) -> int:
    """Writes a memory as a PEFT folder of one rank, in fp32; returns that rank.

    Older versions of vLLM pass over patterns of ranks and alphas without a word, so none is left: all scaling is folded into B,
    and alpha is the rank.

    Args:
        config: of the base.
        base: its name, as others find it.

    Raises:
        BankError: what `check_vllm` refuses.
    """
    check_vllm(memory, config)
    factors = of_one_rank(memory)
    rank = greatest_rank(factors)
    tensors = {
        f"{PREFIX}{path}.lora_{side}.weight": f
        for path, pair in factors.items()
        for side, f in zip("AB", pair, strict=True)
    }
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(factors),
    }
    write_aside(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_aside(folder / CONFIG, to_json(settings))
    return rank


def serve_command(base: str, ranks: Mapping[str, int], template: str) -> list[str]:
    """The command line that serves a base with LoRA modules that lie beside each other, each in a folder of its name.

    Args:
        ranks: name of each memory → its rank.
        template: file of the chat template that they were trained with.
    """
    modules = [f"{name}=./{name}" for name in ranks]
    rank = least_rank(max(ranks.values()))
    at_once = min(len(ranks), AT_ONCE)
    options = ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(at_once), "--chat-template", template]
    return ["vllm", "serve", base, *options, "--lora-modules", *modules]


def write_serve(file: Path, command: list[str]) -> Path:
    """Writes a shell script that runs a command in the script's own folder; returns `file`."""
    lines = ["#!/bin/sh", 'cd "$(dirname "$0")" || exit 1', f'exec {shlex.join(command)} "$@"', ""]
    write_aside(file, "\n".join(lines).encode())
    file.chmod(0o755)
    return file
