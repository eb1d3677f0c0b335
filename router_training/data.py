"""RoutingData: trained wordings with their memory, and unrelated questions, as features for the gate."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import lightning
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler
from transformers import PreTrainedTokenizerBase

from lorary.bank.facts import FactError, read_lines
from lorary.base.prompts import answer_ids, prompt, prompt_ids
from lorary.base.rows import SplitRows
from lorary.model.modeling import LoraryForCausalLM
from lorary.router_training.trained_wordings import TrainedWordings
from lorary.routing.features import pooled_prompts
from lorary.routing.proper_names import with_other_names
from lorary.routing.router import Router

Read = Callable[[Sequence[str]], Tensor]
"""Sentences → a vector each, [sentences, dimension]: embeddings, or of questions the hidden states at the split, pooled."""

_STRANGERS = 512
"""Questions about unknown names at most: more would not move a threshold."""


@dataclass  # not frozen: Lightning moves its tensors to the device in place
class Batch:
    """Queries with their features; `memory` is the right one's number, or that of none (= the number of memories).

    `asked`, `lexical` and `names` are there if they are features of the gate, `pooled` if the hidden state is.

    Args:
        target: a distribution over the memories and none to train on, in place of the one right memory.
        answers: the tokens of all queries and their answers, where there is a model.
        answered: of the queries whose answers the language-model loss sees: place in the batch → row of `answers`.
    """

    embedding: Float[Tensor, "batch embedding"]
    votes: Float[Tensor, "batch memories"]
    memory: Int[Tensor, " batch"]
    pooled: Float[Tensor, "batch hidden"] | None
    target: Float[Tensor, "batch memories_and_none"] | None = None
    asked: Float[Tensor, "batch embedding"] | None = None
    lexical: Float[Tensor, "batch memories"] | None = None
    names: Float[Tensor, "batch memories"] | None = None
    answers: SplitRows | None = None
    answered: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """One query: its text, its memory, its answer (None for an unrelated question), its number among the wordings."""

    text: str
    memory: int
    answer: str | None = None
    key: int = -1


@dataclass(frozen=True)
class AnswerRow:
    """A question's tokens, and from `start` on those of its answer; that of an unrelated question is empty."""

    ids: tuple[int, ...]
    start: int


def read_questions(path: str | Path | None = None) -> list[str]:
    """The questions of a JSONL file with `question` on each line; the shipped unrelated ones by default.

    Raises:
        FactError: a line without a question, naming file and line.
    """
    path = Path(path) if path is not None else Path(__file__).parent / "unrelated.jsonl"
    found = []
    for where, given in read_lines(path):
        if not isinstance(given.get("question"), str):
            raise FactError(f"{where}: needs a JSON object with 'question', a string; it has {given!r}")
        found.append(given["question"])
    return found


class Queries(Dataset[int]):
    """Examples with their features, computed once: base and encoder run once a query, not once an epoch.

    Args:
        model: tokenizes prompts and answers for the language-model loss; where there is none, it cannot be had.
        read: gives the hidden state of questions, where it is a feature; the model's by default.

    Attributes:
        target: a distribution over the memories and none for each example; None, unless set: its memory.
    """

    def __init__(
        self,
        router: Router,
        wordings: TrainedWordings,
        examples: Sequence[Example],
        model: LoraryForCausalLM | None,
        read: Read | None = None,
    ) -> None:
        self.examples = list(examples)
        self.memory = torch.tensor([example.memory for example in examples], dtype=torch.long)
        self.key = torch.tensor([example.key for example in examples], dtype=torch.long)
        texts = [example.text for example in examples]
        features, encode = router.gate.features, router.get_encoder().encode
        self.embedding = wordings.keys[self.key.clamp(min=0)]  # the bank holds those of its own wordings
        new = (self.key < 0).nonzero().squeeze(-1).tolist()
        self.embedding[new] = encode([texts[i] for i in new])
        self.votes = wordings.votes(self.embedding, self.key)
        self.asked = encode(router.without_names(texts)) if "asked" in features else None
        self.lexical = wordings.lexical(router.lexicon, texts, self.key) if "lexical" in features else None
        self.names = None
        if "names" in features:
            self.names = wordings.lexical(router.names_lexicon, router.only_names(texts), self.key)
        self.target: Tensor | None = None
        self.answers, self.pooled = None, None
        if model is not None:
            rows = [_row(model.tokenizer, example) for example in examples]
            self.answers = SplitRows(model.base, model.config.split_layer, rows, int(model.tokenizer.pad_token_id))
            read = read or partial(pooled_prompts, model.base, model.tokenizer, model.config.split_layer)
        if "hidden" in features:
            assert read is not None, "the feature 'hidden' needs a model"
            self.pooled = read(texts)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: list[int], answered: Collection[int] | None = None) -> Batch:
        """The batch of the examples given by number.

        Args:
            answered: the examples whose answers the language-model loss sees; None means all.
        """
        pooled = self.pooled[indices] if self.pooled is not None else None
        known = self.embedding[indices], self.votes[indices], self.memory[indices]
        names = ("target", "asked", "lexical", "names")
        maybe: dict[str, Any] = {
            name: None if (told := getattr(self, name)) is None else told[indices] for name in names
        }
        seen = indices if answered is None else answered
        rows = {place: i for place, i in enumerate(indices) if i in seen and self.examples[i].answer is not None}
        return Batch(*known, pooled, **maybe, answers=self.answers, answered=rows)


def _row(tokenizer: PreTrainedTokenizerBase, example: Example) -> AnswerRow:
    text = prompt(tokenizer, example.text)
    ids = prompt_ids(tokenizer, [text])[0]
    answer = answer_ids(tokenizer, text, example.answer) if example.answer is not None else []
    return AnswerRow((*ids, *answer), len(ids))


def about_others(texts: Sequence[str], names: frozenset[str], seed: int) -> list[str]:
    """Those of the texts that hold names, about names that no memory knows; of many texts every so manieth."""
    chance, words = Random(seed), sorted(word for word in names if word.isalpha()) or sorted(names)
    taken = chance.sample(texts, min(len(texts), _STRANGERS))
    told = ((text, with_other_names(text, names, words, chance)) for text in taken)
    return [other for text, other in told if other != text]


class TrainLoader(DataLoader[int]):
    """Batches of the examples' numbers, collated, that go on within an epoch: the state says how many were drawn."""

    drawn, start = 0, 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        start, self.start = self.start, 0  # of this iterator alone, though it may never be asked for a batch
        return self._from(start)

    def _from(self, start: int) -> Iterator[Batch]:
        for number, indices in enumerate(self.batch_sampler or (), 1):
            self.drawn = number
            if number > start:
                yield self.collate_fn(indices)

    def state_dict(self) -> dict[str, int]:
        return {"drawn": self.drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["drawn"]


class RoutingData(lightning.LightningDataModule):
    """Trained wordings and unrelated questions to train on; validation wordings and kept questions to calibrate on.

    Held-out wordings are never read here.

    Args:
        unrelated: questions that no memory answers; every fourth is kept for calibration.
        model: the composite, where the language-model loss or the hidden state takes part.
        unknown_names: whether there are `strangers`.
        read: as in `Queries`.

    Attributes:
        strangers: validation wordings about names that no memory knows, to calibrate on: what is asked is known, of whom
            is not, and none is right.
        language_rows: of the `batch_size` queries of a step, how many the language-model loss looks at; none unless set.
    """

    def __init__(
        self,
        router: Router,
        unrelated: Sequence[str],
        *,
        batch_size: int,
        seed: int,
        model: LoraryForCausalLM | None = None,
        unknown_names: bool = True,
        read: Read | None = None,
    ) -> None:
        super().__init__()
        self.batch_size, self.seed, self.language_rows = batch_size, seed, 0
        self.wordings = TrainedWordings.of(router.bank)
        none = len(router.bank)
        trained, validation = list[Example](), list[Example]()
        for number, memory in enumerate(router.bank):
            for fact in memory.facts:
                trained += [
                    Example(wording, number, fact.answer, len(trained) + i) for i, wording in enumerate(fact.trained)
                ]
                validation += [Example(wording, number, fact.answer) for wording in fact.validation]
        for number, question in enumerate(unrelated):
            (validation if number % 4 == 3 else trained).append(Example(question, none))
        self.trained = Queries(router, self.wordings, trained, model, read)
        self.validation = Queries(router, self.wordings, validation, model, read)
        known = [example.text for example in validation if example.memory < none] if unknown_names else []
        others = [Example(text, none) for text in about_others(known, router.names, seed)]
        self.strangers = Queries(router, self.wordings, others, model, read)

    def train_dataloader(self) -> DataLoader[int]:
        # Its order follows seed and epoch, so that a resumed run sees what an uninterrupted one would; and with many
        # devices each takes its part of the same batches that one would take.
        devices = self.trainer.world_size if self.trainer is not None else 1
        rank = self.trainer.global_rank if self.trainer is not None else 0
        order: DistributedSampler[int] = DistributedSampler(
            self.trained, num_replicas=devices, rank=rank, seed=self.seed
        )
        size = max(1, self.batch_size // devices)
        # The first of a step, which are drawn anew for each epoch; devices take turns at its queries.
        seen = len(range(rank, self.language_rows, devices))
        collate = self.trained.collate
        return TrainLoader(self.trained, size, sampler=order, collate_fn=lambda chosen: collate(chosen, chosen[:seen]))

    def val_dataloader(self) -> DataLoader[int]:
        share = min(1.0, self.language_rows / self.batch_size)
        seen = Random(self.seed).sample(range(len(self.validation)), math.ceil(share * len(self.validation)))
        collate = partial(self.validation.collate, answered=frozenset(seen))
        return DataLoader(self.validation, 4 * self.batch_size, collate_fn=collate)
