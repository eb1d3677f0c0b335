"""RoutingData: trained wordings with their memory, and unrelated questions, as features for the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from lorary.facts import FactError, read_lines
from lorary.modeling import LoraryForCausalLM
from lorary.pooling import pooled_prompt
from lorary.prompts import answer_text, prompt
from lorary.router import Router
from lorary.router_training.wordings import Wordings

_NO_IDS = torch.zeros(0, dtype=torch.long)


@dataclass  # not frozen: Lightning moves its tensors to the device in place
class Batch:
    """Queries with their features; `memory` is the right one's number, or that of none (= the number of memories).

    `asked`, `lexical` and `names` are there if they are features of the gate, `pooled` if the hidden state is;
    `losses` of the answers under each memory if they were measured.
    """

    embedding: Float[Tensor, "batch embedding"]
    votes: Float[Tensor, "batch memories"]
    memory: Int[Tensor, " batch"]
    pooled: Float[Tensor, "batch hidden"] | None
    rows: list[tuple[Tensor, Tensor]]
    losses: Float[Tensor, "batch memories"] | None = None
    asked: Float[Tensor, "batch embedding"] | None = None
    lexical: Float[Tensor, "batch memories"] | None = None
    names: Float[Tensor, "batch memories"] | None = None


@dataclass(frozen=True)
class Example:
    """One query: its text, its memory, its answer (None for an unrelated question), its number among the wordings."""

    text: str
    memory: int
    answer: str | None = None
    key: int = -1


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
        model: tokenizes prompts and answers for the language-model loss, and gives the hidden state; where there is
            none, neither can be had.
    """

    def __init__(
        self, router: Router, wordings: Wordings, examples: Sequence[Example], model: LoraryForCausalLM | None
    ) -> None:
        self.examples = list(examples)
        self.memory = torch.tensor([example.memory for example in examples])
        self.key = torch.tensor([example.key for example in examples], dtype=torch.long)
        texts = [example.text for example in examples]
        features, encode = router.gate.features, router.get_encoder().encode
        self.embedding = encode(texts)
        self.votes = wordings.votes(self.embedding, self.key)
        self.asked = encode(router.without_names(texts)) if "asked" in features else None
        self.lexical = wordings.lexical(router.lexicon, texts, self.key) if "lexical" in features else None
        self.names = None
        if "names" in features:
            self.names = wordings.lexical(router.names_lexicon, router.only_names(texts), self.key)
        self.rows = [_row(model, example) if model is not None else (_NO_IDS, _NO_IDS) for example in examples]
        self.losses: Tensor | None = None
        self.pooled = None
        if "hidden" in features:
            assert model is not None, "the feature 'hidden' needs a model"
            self.pooled = _pooled(model, [row for row, _ in self.rows])

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: list[int]) -> Batch:
        """The batch of the examples given by number."""
        pooled = self.pooled[indices] if self.pooled is not None else None
        rows = [self.rows[i] for i in indices]
        known = self.embedding[indices], self.votes[indices], self.memory[indices]
        maybe = (self.losses, self.asked, self.lexical, self.names)
        return Batch(*known, pooled, rows, *(None if one is None else one[indices] for one in maybe))


def _pooled(model: LoraryForCausalLM, rows: Sequence[Tensor]) -> Float[Tensor, "rows hidden"]:
    return torch.stack([pooled_prompt(model.base, model.config.split_layer, ids) for ids in rows])


def _row(model: LoraryForCausalLM, example: Example) -> tuple[Tensor, Tensor]:
    """(prompt ids, answer ids); the answer of an unrelated question is empty."""
    tokenizer = model.tokenizer
    asked = tokenizer(prompt(tokenizer, example.text), add_special_tokens=False).input_ids
    said = answer_text(tokenizer, example.answer) if example.answer is not None else ""
    return torch.tensor(asked), torch.tensor(tokenizer(said, add_special_tokens=False).input_ids, dtype=torch.long)


class RoutingData(lightning.LightningDataModule):
    """Trained wordings and unrelated questions to train on; validation wordings and kept questions to calibrate on.

    Held-out wordings are never read here.

    Args:
        unrelated: questions that no memory answers; every fourth is kept for calibration.
        model: the composite, where the language-model loss or the hidden state takes part.
    """

    def __init__(
        self,
        router: Router,
        unrelated: Sequence[str],
        *,
        batch_size: int,
        seed: int,
        model: LoraryForCausalLM | None = None,
    ) -> None:
        super().__init__()
        self.batch_size, self.seed = batch_size, seed
        self.wordings = Wordings.of(router.bank)
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
        self.trained = Queries(router, self.wordings, trained, model)
        self.validation = Queries(router, self.wordings, validation, model)

    def train_dataloader(self) -> DataLoader[int]:
        # Its order follows seed and epoch, so that a resumed run sees what an uninterrupted one would; and with many
        # devices each takes its part of the same batches that one would take.
        devices = self.trainer.world_size if self.trainer is not None else 1
        rank = self.trainer.global_rank if self.trainer is not None else 0
        order: DistributedSampler[int] = DistributedSampler(
            self.trained, num_replicas=devices, rank=rank, seed=self.seed
        )
        size = max(1, self.batch_size // devices)
        return DataLoader(self.trained, size, sampler=order, collate_fn=self.trained.collate)

    def val_dataloader(self) -> DataLoader[int]:
        return DataLoader(self.validation, 4 * self.batch_size, collate_fn=self.validation.collate)
