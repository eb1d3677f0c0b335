"""Queries: questions with the features that the gate reads of them, worked out once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from lorary.base.prompts import Chat, answer_ids, chat_text, prompt, prompt_ids
from lorary.base.rows import SplitRows
from lorary.model.modeling import LoraryForCausalLM
from lorary.router_training.trained_wordings import TrainedWordings
from lorary.routing.features import Features
from lorary.routing.pooling import pooled_prompts
from lorary.routing.router import Router

Read = Callable[[Sequence[str]], Tensor]
"""Sentences → a vector each, [sentences, dimension]: embeddings, or of questions the hidden states at the split, pooled."""


@dataclass  # not frozen: Lightning moves its tensors to the device in place
class Batch:
    """Queries with their features; `memory` is the right one's number, or that of none (= the number of memories).

    Args:
        target: a distribution over the memories and none to train on, in place of the one right memory.
        answers: the tokens of all queries and their answers, where there is a model.
        answered: of the queries whose answers the language-model loss sees: place in the batch → row of `answers`.
    """

    features: Features
    memory: Int[Tensor, " batch"]
    target: Float[Tensor, "batch memories_and_none"] | None = None
    answers: SplitRows | None = None
    answered: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """One query: its text, its memory, its answer (None where none is known), its number among the wordings.

    Args:
        chat: what is put to the model; the text as the only turn of a user where it is None.
        of_fact: whether it asks for a fact of its memory, and the answer is the fact's.
    """

    text: str
    memory: int
    answer: str | None = None
    key: int = -1
    chat: Chat | None = None
    of_fact: bool = False


@dataclass(frozen=True)
class AnswerRow:
    """A question's tokens, and from `start` on those of its answer; that of an unrelated question is empty."""

    ids: tuple[int, ...]
    start: int


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
        used, encode = router.gate.features, router.get_encoder().encode
        embedding = wordings.keys[self.key.clamp(min=0)]  # the bank holds those of its own wordings
        new = (self.key < 0).nonzero().squeeze(-1).tolist()
        embedding[new] = encode([texts[i] for i in new])
        votes = wordings.votes(embedding, self.key)
        names, contents = None, None
        if "names" in used:
            names = wordings.lexical(router.names_lexicon, router.only_names(texts), self.key)
        if "contents" in used:
            contents = _contents(router, wordings, texts, embedding, votes, self.key)
        self.target: Tensor | None = None
        self.answers, hidden = None, None
        if model is not None:
            rows = [answer_row(model.tokenizer, example) for example in examples]
            self.answers = SplitRows(model.base, model.config.split_layer, rows, int(model.tokenizer.pad_token_id))
            read = read or partial(pooled_prompts, model.base, model.tokenizer, model.config.split_layer)
        if "hidden" in used:
            assert read is not None, "the feature 'hidden' needs a model"
            hidden = read(texts)
        asked = encode(router.without_names(texts)) if "asked" in used else None
        self.features = Features(embedding, votes, asked, names, contents, hidden)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: list[int], answered: Collection[int] | None = None) -> Batch:
        """The batch of the examples given by number.

        Args:
            answered: the examples whose answers the language-model loss sees; None means all.
        """
        target = None if self.target is None else self.target[indices]
        seen = indices if answered is None else answered
        rows = {place: i for place, i in enumerate(indices) if i in seen and self.examples[i].answer is not None}
        return Batch(self.features.rows(indices), self.memory[indices], target, self.answers, rows)


def _contents(
    router: Router,
    wordings: TrainedWordings,
    texts: Sequence[str],
    embedding: Float[Tensor, "queries embedding"],
    votes: Float[Tensor, "queries memories"],
    key: Int[Tensor, " queries"],
) -> Float[Tensor, "queries memories kinds"]:
    """What the contents say of queries, of which those that were trained on do not find themselves."""
    known = router.knows_words(texts)
    grams = wordings.lexical(router.contents.wording_grams, texts, key)
    return router.contents.scores(texts, embedding, known, router.bank.names, votes, grams)


def answer_row(tokenizer: PreTrainedTokenizerBase, example: Example) -> AnswerRow:
    """The tokens of an example's prompt and of its answer."""
    text = prompt(tokenizer, example.text) if example.chat is None else chat_text(tokenizer, example.chat)
    ids = prompt_ids(tokenizer, [text])[0]
    answer = answer_ids(tokenizer, text, example.answer) if example.answer is not None else []
    return AnswerRow((*ids, *answer), len(ids))
