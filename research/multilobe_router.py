"""The package `multilobe` over the memories of a bank: its own two routers choose one memory for each question.

It first takes the memory whose mean question is nearest, if that is near enough (cosine 0.75), else the one under which the
question's own tokens are likeliest. It always takes one: there is no "none".
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from lorary.bank.bank import MemoryBank
from lorary.base.loading import Base
from lorary.research.settings import RivalError
from lorary.routing.encoder import Encoder, load_encoder


def version_of_multilobe() -> str:
    """The version that is installed. Raises RivalError where none is."""
    try:
        return version("multilobe")
    except PackageNotFoundError as error:
        raise RivalError("the package multilobe is not installed; pip install --no-deps multilobe==0.1.0") from error


def new_lobes(base: Base, folders: Sequence[Path]) -> PeftModel:
    """The base with the adapters in `folders`, as the package loads them; each is named by its number (`adapter_of`)."""
    model = PeftModel.from_pretrained(base.model, str(folders[0]), adapter_name=adapter_of(0))
    for number, folder in enumerate(folders[1:], 1):
        model.load_adapter(str(folder), adapter_name=adapter_of(number))
    return model.eval()


def adapter_of(memory: int) -> str:
    """The name of a memory's adapter in the model."""
    return f"lobe_{memory}"


def choose(
    model: PeftModel, base: Base, bank: MemoryBank, questions: Sequence[str], seed: int
) -> list[tuple[int, str]]:
    """(the number of the memory, the name of the router that chose it) of each question.

    Args:
        model: of `new_lobes`.
        seed: of the order of a memory's wordings, because the package takes the mean of the first hundred.

    Raises:
        RivalError: a memory has no wordings, which the package trains and routes by.
    """
    from multilobe.lobe import Lobe, LobeMetadata
    from multilobe.router import EmbeddingRouter, LogProbRouter

    near, likely = EmbeddingRouter(), LogProbRouter()
    near._encoder = _AsTheLibrary(load_encoder(bank.encoder))  # the bank's, where it would download its own
    lobes = {}
    for number, memory in enumerate(bank):
        wordings = random.Random(seed).sample(memory.wordings, len(memory.wordings))
        if not wordings:
            raise RivalError(f"memory {memory.name!r} has no wordings; multilobe routes by them; give a bank of facts")
        mean = near.compute_representation(wordings).tolist()
        name = adapter_of(number)
        lobes[name] = Lobe(LobeMetadata(name, representation_vector=mean, adapter_name=name))
    names, chosen = [*lobes], []
    for question in questions:
        found = near.route(question, lobes) or likely.route(
            question, lobes, model=model, tokenizer=base.tokenizer, device=torch.device(model.device)
        )
        chosen.append((names.index(found.selected_lobe), found.router_type))
    return chosen


class _AsTheLibrary:
    """An encoder of a bank, asked as sentence-transformers is."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def encode(self, texts: Sequence[str], **_: Any) -> Any:
        return self._encoder.encode(texts).float().numpy()
