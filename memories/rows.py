"""Facts → token rows: a prompt, an answer, and labels on the answer alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lorary.facts import Fact
from lorary.prompts import answer_text, prompt


@dataclass(frozen=True)
class Row:
    """One wording of one fact of one memory, tokenised; `ids[start:]` is the answer."""

    memory: int
    fact: int
    ids: tuple[int, ...]
    start: int


def with_validation(fact: Fact, count: int) -> Fact:
    """The fact with its last `count` wordings kept for validation; a fact keeps at least one to train on."""
    wordings = [*dict.fromkeys((fact.question, *fact.questions))]
    keep = min(count, len(wordings) - 1)
    return replace(fact, validation=tuple(wordings[len(wordings) - keep :]) if keep > 0 else ())


def tokenise(tokenizer: PreTrainedTokenizerBase, memory: int, fact: int, question: str, answer: str) -> Row:
    """The row that asks `question` and answers `answer`."""
    asked = tokenizer(prompt(tokenizer, question), add_special_tokens=False).input_ids
    said = tokenizer(answer_text(tokenizer, answer), add_special_tokens=False).input_ids
    return Row(memory, fact, (*asked, *said), len(asked))


def rows(
    tokenizer: PreTrainedTokenizerBase, memories: Sequence[Sequence[Fact]], *, validation: bool = False
) -> list[Row]:
    """A row for each trained (or each validation) wording of each fact."""
    return [
        tokenise(tokenizer, m, f, question, fact.answer)
        for m, facts in enumerate(memories)
        for f, fact in enumerate(facts)
        for question in (fact.validation if validation else fact.trained)
    ]


def pad(batch: Sequence[Row], pad_id: int) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Right-padded ids and labels; a label is the *next* token where that token is part of the answer, else -100.

    Right padding needs no attention mask: what follows a token cannot reach it.
    """
    width = max(len(row.ids) for row in batch) - 1
    ids = torch.full((len(batch), width), pad_id)
    labels = torch.full((len(batch), width), -100)
    for i, row in enumerate(batch):
        known = torch.tensor(row.ids)
        ids[i, : len(known) - 1] = known[:-1]
        labels[i, row.start - 1 : len(known) - 1] = known[row.start :]
    return ids, labels
