"""RoutingData: trained wordings with their memory, and unrelated questions, as features for the gate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from types import MappingProxyType

import lightning
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from lorary.bank.facts import FactError, read_lines
from lorary.base.prompts import Chat
from lorary.model.modeling import LoraryForCausalLM
from lorary.router_training.queries import Batch, Example, Queries, Read
from lorary.router_training.trained_wordings import TrainedWordings
from lorary.routing.proper_names import only_names, with_other_names
from lorary.routing.router import Router

_NAMED = 0.9
_STRANGERS = 512
"""Questions about unknown names at most: more would not move a threshold."""


def read_questions(path: str | Path | None = None) -> list[str]:
    """The questions of a JSONL file with `question` on each line; the shipped unrelated ones by default.

    Raises:
        FactError: a line without a question, naming file and line.
    """
    path = Path(path) if path is not None else Path(__file__).parent / "unrelated.jsonl"
    questions = []
    for where, line in read_lines(path):
        if not isinstance(line.get("question"), str):
            raise FactError(f"{where}: needs a JSON object with 'question', a string; it has {line!r}")
        questions.append(line["question"])
    return questions


def about_others(texts: Sequence[str], names: frozenset[str], seed: int) -> list[str]:
    """Those of the texts that hold names, about names that no memory knows; of many texts every so manieth."""
    chance, words = Random(seed), sorted(word for word in names if word.isalpha()) or sorted(names)
    taken = chance.sample(texts, min(len(texts), _STRANGERS))
    changed = ((text, with_other_names(text, names, words, chance)) for text in taken)
    return [other for text, other in changed if other != text]


def named(texts: Sequence[str], names: frozenset[str]) -> bool:
    """Whether nearly all of the texts name whom they ask about. Where many do not, names are incidental: with another name
    the same memory may still know what is asked."""
    return sum(bool(only_names(text, names)) for text in texts) >= _NAMED * len(texts)


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
        completions: prompt of an example → (what is to be said, its chat).
        kept: examples to calibrate on.
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
        completions: Mapping[str, tuple[str | None, Chat | None]] = MappingProxyType({}),
        kept: Sequence[Example] = (),
    ) -> None:
        super().__init__()
        self.batch_size, self.seed, self.language_rows = batch_size, seed, 0
        self.wordings = TrainedWordings.of(router.bank)
        none = len(router.bank)
        trained, validation = list[Example](), list[Example]()
        for number, memory in enumerate(router.bank):
            for fact in memory.facts:
                for wording in fact.trained:
                    trained.append(Example(wording, number, fact.answer, len(trained), of_fact=True))
                validation += [Example(w, number, fact.answer, of_fact=True) for w in fact.validation]
            for prompt in memory.examples:
                said = completions.get(prompt, (None, None))
                trained.append(Example(prompt, number, said[0], len(trained), said[1]))
        validation += kept
        for number, question in enumerate(unrelated):
            (validation if number % 4 == 3 else trained).append(Example(question, none))
        self.trained = Queries(router, self.wordings, trained, model, read)
        self.validation = Queries(router, self.wordings, validation, model, read)
        known = [example.text for example in validation if example.of_fact]
        if not (unknown_names and named(known, router.names)):
            known = []
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
