"""A memory merged into its base, and a base alone, as stock Hugging Face folders that need nothing of Lorary."""

from __future__ import annotations

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
        aside.chmod(0o755)
        if folder.is_dir():
            folder.rmdir()
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder
