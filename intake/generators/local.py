"""A generator that is a causal language model on this machine: the embedded base, a local folder or a hub id."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from lorary.base.loading import EMBEDDED, Base, load_base
from lorary.base.prompts import chat_text
from lorary.intake.generators.prompted import Prompted, Turns

LONGEST = 160
"""Tokens of the longest answer."""


def local_generator(name: str) -> Prompted:
    """A generator that asks a model on this machine. Nothing leaves it.

    Args:
        name: "embedded" or the embedded base's whole name, a local folder, or a hub id.

    Raises:
        BaseError: the model cannot be loaded.
    """
    base = _loaded(EMBEDDED if name == "embedded" else name)
    return Prompted(lambda turns: _completed(base, turns), small=True)


@lru_cache(maxsize=1)
def _loaded(name: str) -> Base:
    return load_base(name)


def _completed(base: Base, turns: Turns) -> str:
    """The model's next turn, greedily."""
    inputs = base.tokenizer(chat_text(base.tokenizer, turns), return_tensors="pt", add_special_tokens=False)
    inputs = {name: tensor.to(base.model.device) for name, tensor in inputs.items() if name != "token_type_ids"}
    with torch.no_grad():
        model: Any = base.model
        output = model.generate(
            **inputs, max_new_tokens=LONGEST, do_sample=False, pad_token_id=base.tokenizer.pad_token_id
        )
    return str(base.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
