"""A memory merged into its base, and a base alone, as stock Hugging Face folders that need nothing of Lorary."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedTokenizerBase

from lorary.bank.adapters import PREFIX
from lorary.bank.files import BankError
from lorary.bank.memory import Memory
from lorary.bank.targets import scaling

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.no_grad()
def merge_memory(model: PreTrainedModel, memory: Memory) -> None:
    """Adds a memory's update to a base's own weights, W ← W + scale · B A, in the order in which PEFT multiplies.

    The sum is rounded to the base's dtype, as PEFT's `merge_and_unload` does.
    """
    for path in memory.paths:
        a, b = (memory.tensors[f"{PREFIX}{path}.lora_{side}.weight"].float() for side in "AB")
        weight = model.get_submodule(path).weight
        assert isinstance(weight, torch.Tensor)
        update = (b @ a) * scaling(memory.adapter_config, path, len(a))
        weight.data += update.to(weight.device)


def check_free(folder: Path) -> None:
    """Raises BankError for a folder that holds something, which a whole model must not be mixed with."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BankError(f"{folder} holds something already; give a folder that is empty or does not stand yet")


def write_stock(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """Writes a model with its tokenizer as `from_pretrained` takes it; the folder appears whole. Returns `folder`.

    Raises:
        BankError: the folder holds something already.
    """
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        _tell_rope_at_the_top(aside / "config.json")
        aside.chmod(0o755)
        if folder.is_dir():
            folder.rmdir()
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _tell_rope_at_the_top(file: Path) -> None:
    """Also tells a configuration's rotary embedding where transformers before its version 5 did: mlx-lm looks there alone, and
    takes a base of 10,000 where it finds none, without a word (`findings/mlx-lm-ignores-rope-parameters.sh`)."""
    config = json.loads(file.read_text(encoding="utf-8"))
    rope = config.get("rope_parameters")
    if not isinstance(rope, dict) or "rope_theta" not in rope:
        return
    earlier = {"rope_theta": rope["rope_theta"]}
    if rope.get("rope_type", "default") != "default":
        earlier["rope_scaling"] = rope
    if config.get("model_type") == "gpt_neox":
        earlier |= {"rotary_emb_base": rope["rope_theta"], "rotary_pct": rope.get("partial_rotary_factor", 0.25)}
    file.write_text(json.dumps({**earlier, **config}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
