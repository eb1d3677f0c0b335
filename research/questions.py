"""Questions to measure routers on: those of memories by kind, those that no memory answers, and vectors of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lorary.bank.memory import Memory
from lorary.base.loading import Base
from lorary.base.rows import default_split
from lorary.router_training.data import read_questions
from lorary.router_training.queries import Example, Read
from lorary.routing.pooling import pooled_prompts


@dataclass(frozen=True)
class Questions:
    """Questions of one kind: `memory` is the right one's number, that of none where no memory answers."""

    texts: list[str]
    memory: Int[Tensor, " questions"]
    answers: list[str | None]
    facts: list[str]

    def examples(self) -> list[Example]:
        """The same as the gate's data knows them."""
        rows = zip(self.texts, self.memory.tolist(), self.answers, strict=True)
        return [Example(text, memory, answer) for text, memory, answer in rows]


def questions_of(memories: Iterable[Memory], kind: str, first: int = 0) -> Questions:
    """The `trained`, `validation` or `held_out` wordings of the memories' facts; `first` is the first memory's number."""
    rows = [
        (wording, number, fact.answer, f"{memory.name}/{i}")
        for number, memory in enumerate(memories, first)
        for i, fact in enumerate(memory.facts)
        for wording in getattr(fact, kind)
    ]
    numbers = torch.tensor([row[1] for row in rows], dtype=torch.long)
    return Questions([row[0] for row in rows], numbers, [row[2] for row in rows], [row[3] for row in rows])


def unrelated_questions(texts: Sequence[str], memories: int) -> Questions:
    """Questions that none of so many memories answers, each a fact of its own."""
    facts = [f"unrelated/{i}" for i in range(len(texts))]
    return Questions(list(texts), torch.full((len(texts),), memories), [None] * len(texts), facts)


def general_questions() -> list[str]:
    """Questions that no generated set answers, and that no gate trains or is calibrated on."""
    return read_questions(Path(__file__).parent / "general.jsonl")


class Remembered:
    """An encoder that gives what a function works out, and works each sentence out once.

    Args:
        work_out: sentences → vectors of `dimension` numbers.
        name: of the encoder, where it is one that a bank can name.
    """

    def __init__(self, work_out: Read, dimension: int, name: str = "") -> None:
        self.work_out, self.dimension, self.name = work_out, dimension, name
        self._known: dict[str, Tensor] = {}

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences dimension"]:
        """The vectors of sentences, in their order."""
        if new := [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._known]:
            self._known.update(zip(new, self.work_out(new), strict=True))
        return torch.stack([self._known[s] for s in sentences]) if sentences else torch.zeros(0, self.dimension)


def hidden_states(base: Base | None) -> Remembered:
    """What a gate reads of a base's hidden state at the split, of questions; vectors of no size where there is no base."""
    if base is None:
        return Remembered(lambda sentences: torch.zeros(len(sentences), 0), 0)
    reads = partial(pooled_prompts, base.model, base.tokenizer, default_split(base.model))
    return Remembered(reads, base.model.config.get_text_config().hidden_size)
