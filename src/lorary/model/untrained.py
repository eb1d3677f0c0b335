"""A bank that answers before its router is trained: a question goes by what the memories hold."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from lorary.bank.bank import MemoryBank
from lorary.bank.companions import has_companion
from lorary.bank.files import MANIFEST
from lorary.base.loading import Base, load_base
from lorary.base.quantising import dtype_for
from lorary.errors import LoraryWarning
from lorary.model.composite import assemble
from lorary.model.configuration import CONFIG_PART
from lorary.model.modeling import LoraryForCausalLM
from lorary.model.saved import is_composite


class UntrainedWarning(LoraryWarning):
    """A bank answers without a trained router."""


def is_bare_bank(folder: str | Path) -> bool:
    """Whether `folder` holds a bank, and nothing of a composite: one that lost its gate is damaged."""
    place = Path(folder)
    return (place / MANIFEST).is_file() and not is_composite(place) and not has_companion(place, CONFIG_PART)


def load_untrained(
    folder: str | Path,
    *,
    base: str | None = None,
    dtype: torch.dtype | str | None = None,
    quantization_config: Any = None,
) -> LoraryForCausalLM:
    """The composite of a bank with an untrained gate. Warns (`UntrainedWarning`), because no threshold is calibrated.

    Args:
        base: another name for the base; its fingerprint is checked all the same.
        dtype, quantization_config: of the base, as `load_composite` takes them.

    Raises:
        BankError, BaseError: the bank cannot be read, or the base is not the bank's.
    """
    bank = MemoryBank.load(folder)
    warnings.warn(
        f"{folder} holds a bank without a trained router: a question goes to the memory that it is nearest to, by thresholds "
        f"that nothing calibrated; `lorary train-router {folder} --out COMPOSITE` trains one",
        UntrainedWarning,
        stacklevel=2,
    )
    loaded = load_base(base or bank.base, revision=bank.revision, dtype=dtype_for(quantization_config, dtype))
    named = Base(bank.base, bank.revision, loaded.model, loaded.tokenizer)
    return assemble(bank, named, quantization_config=quantization_config)
