"""Whether an adapter was trained on the bank's base: by the name that it was saved with, or by the weights there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lorary.bank.lora_config import AdapterError
from lorary.base.layers import BaseError, fingerprint_of

_HINT = "give same_base=True (--same-base) if these are two names of one model"


def check_base(config: Mapping[str, Any], base: str, revision: str | None, fingerprint: str, where: str) -> None:
    """Compares the base that an adapter names with the bank's.

    A local folder is the bank's base if it has the same path, or the same weights. Any other name is compared whole,
    since two owners may give their models one last name, and so is the revision where both name one.

    Args:
        base, revision, fingerprint: of the bank's base.

    Raises:
        AdapterError: the adapter is for another base, or for one that cannot be told from another.
    """
    named = config.get("base_model_name_or_path") or ""
    mismatch = f"{where}: is for the base {named!r}, the bank for {base!r}"
    if os.path.isdir(named):
        if Path(named).resolve() == _folder_of(base):
            return
        own = fingerprint_of_folder(Path(named))
        if own is None:
            raise AdapterError(f"{mismatch}; whether they are one cannot be told from its files; {_HINT}")
        if own != fingerprint:
            raise AdapterError(f"{mismatch}, and their weights differ; add it to a bank over its own base, or {_HINT}")
        return
    if named != base:
        raise AdapterError(f"{mismatch}; {_HINT}")
    theirs = config.get("revision")
    if theirs and revision and theirs != revision:
        raise AdapterError(f"{mismatch}, of revision {theirs!r} and {revision!r}; {_HINT}")


def _folder_of(base: str) -> Path | None:
    """The folder that the bank's base is loaded from, resolved; transformers names the embedded base so, too."""
    # Here, because the Auto classes import the composite, and so this module, in the middle of their own import.
    from lorary.base.embedded import PREFIX, embedded_file

    if not base.startswith(PREFIX):
        return Path(base).resolve()
    try:
        return embedded_file(base).parent.resolve()
    except BaseError:
        return None


def fingerprint_of_folder(folder: Path) -> str | None:
    """The fingerprint of the base in a local folder, without loading it; None where its files do not tell it.

    A model without memory gives the parameters' names and shapes, and of each weight a sample is read from its file.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
        shapes = {name: weight.shape for name, weight in model.named_parameters()}
        weights = dict[str, Tensor]()
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as tensors:
                weights |= {name: tensors.get_tensor(name) for name in tensors.keys() if name in shapes}  # noqa: SIM118
    except (OSError, ValueError, KeyError, ImportError, SafetensorError):
        return None
    if {name: weight.shape for name, weight in weights.items()} != shapes:
        return None
    return fingerprint_of(model.config.model_type, weights)
