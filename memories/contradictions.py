"""What new facts contradict: other facts that ask the same and answer otherwise, in the bank or among them, and the base."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.bank.facts import Fact, comparable
from lorary.bank.memory import Memory
from lorary.base.loading import Base
from lorary.base.prompts import longest_answer, prompt, prompt_batch
from lorary.routing.encoder import Encoder
from lorary.routing.proper_names import Names
from lorary.words import lowered, words_of

NEAR = 0.86
"""Mean cosine of a fact's wordings to the nearest of another's from which on both may ask the same.

On the development topics (80 facts, one to three of a fact's wordings against four) it finds 0.68 to 0.73 of the facts that
do, and takes another fact of the same names for one in 0.03 to 0.08 of all.
"""
SURE = 0.6
"""How sure the base must be of an answer (`surety`).

Of 16 questions of common knowledge it is as sure of the right answer in 6, of the 80 questions on the development topics,
which are invented, in 1 (the embedded base).
"""
_BATCH, _AROUND = 16, 12
"""Questions a batch, and tokens beyond the longest answer."""
_FILLING = {
    *("a", "an", "and", "are", "at", "by", "for", "has", "have", "in", "is", "it", "its", "of", "on", "that", "the"),
    *("there", "this", "to", "was", "were"),
}


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """A new fact beside one that answers otherwise.

    Args:
        topic: the memory of the new fact.
        kind: `same` where both have a wording, `near` where their wordings mean about the same, `base` for what the base
            answers by itself.
        wording, answer: of the new fact.
        memory, other_wording, other_answer: of the other; the base is in no memory.
        replaced: whether the new fact takes the other's place.
    """

    topic: str
    kind: str
    wording: str
    answer: str
    other_answer: str
    memory: str | None = None
    other_wording: str | None = None
    replaced: bool = False

    def __str__(self) -> str:
        if self.kind == "base":
            return f"{self.wording!r}: {self.answer!r} here, and the base is sure of {self.other_answer!r}"
        other = f"{self.other_answer!r} in {self.memory}"
        if self.kind == "near":
            other += f" to {self.other_wording!r}, which asks about the same"
        return f"{self.wording!r}: {self.answer!r} here, {other}{', which it replaces' if self.replaced else ''}"


def otherwise(fact: Fact, other: Fact) -> bool:
    """Whether two facts have different answers."""
    return comparable(fact.answer) != comparable(other.answer)


def shared_wording(fact: Fact, other: Fact) -> str | None:
    """The first wording of a fact that another has too, but for case, white space and Unicode form."""
    others = {comparable(wording) for wording in other.wordings}
    return next((wording for wording in fact.wordings if comparable(wording) in others), None)


@dataclass(frozen=True)
class Embedded:
    """A fact in a memory, with the vectors of its wordings.

    Args:
        keys: [wordings, embedding], unit vectors.
    """

    memory: str
    fact: Fact
    keys: Float[Tensor, "wordings embedding"]


def embedded(memory: str, facts: Sequence[Fact], encoder: Encoder) -> list[Embedded]:
    """Facts with the vectors of their trained wordings."""
    keys = iter(encoder.encode([wording for fact in facts for wording in fact.trained]))
    return [Embedded(memory, fact, torch.stack([next(keys) for _ in fact.trained])) for fact in facts]


def held_by(memory: Memory) -> list[Embedded]:
    """The facts of a memory with the vectors that it has for them; none without any."""
    facts = torch.tensor(memory.key_facts)
    own = [(fact, memory.keys[facts == number]) for number, fact in enumerate(memory.facts)]
    return [Embedded(memory.name, fact, keys) for fact, keys in own if len(keys)]


def near(new: Sequence[Embedded], others: Sequence[Embedded]) -> list[Contradiction]:
    """New facts that may ask what others ask, and answer otherwise: their wordings are near, and name the same.

    A fact is compared with `others` and with the new facts before it; facts that share a wording are left to who looks for
    these.
    """
    every = [*others, *new]
    if not new or len(every) < 2:
        return []
    names = Names.of((str(i), held.fact.wordings) for i, held in enumerate(every)).all
    named = [{lowered(word) for wording in e.fact.wordings for word in words_of(wording)} & names for e in every]
    owner = torch.tensor([i for i, held in enumerate(every) for _ in held.keys])
    keys = torch.cat([held.keys for held in every])
    listed = []
    for number, held in enumerate(new, len(others)):
        similarity = nearness(held.keys, keys, owner, len(every))[:number]
        for i in (similarity >= NEAR).nonzero().flatten().tolist():
            other = every[i]
            same_names = bool(named[i] & named[number]) or not (named[i] or named[number])
            if same_names and otherwise(held.fact, other.fact) and shared_wording(held.fact, other.fact) is None:
                nearest = int((other.keys @ held.keys.T).max(-1).values.argmax())
                listed.append(
                    Contradiction(
                        topic=held.memory,
                        kind="near",
                        wording=held.fact.question,
                        answer=held.fact.answer,
                        other_answer=other.fact.answer,
                        memory=other.memory,
                        other_wording=other.fact.trained[nearest],
                    )
                )
    return listed


def nearness(
    wordings: Float[Tensor, "wordings embedding"],
    keys: Float[Tensor, "keys embedding"],
    owner: Tensor,
    facts: int,
) -> Float[Tensor, " facts"]:
    """The mean over a fact's wordings of the cosine to the nearest wording of each fact that the keys belong to."""
    cosines = wordings @ keys.T
    nearest = cosines.new_full((len(wordings), facts), -1.0)
    return nearest.scatter_reduce(1, owner.expand(len(wordings), -1), cosines, "amax").mean(0)


def same_wordings(
    topic: str, new: Iterable[Fact], others: Iterable[tuple[str, Fact]], *, replaced: bool
) -> list[Contradiction]:
    """New facts of a topic that share a wording with others, and answer otherwise.

    Args:
        others: with the memories that hold them.
        replaced: whether the new facts take their places.
    """
    owners: dict[str, list[tuple[str, Fact]]] = {}
    for memory, other in others:
        for wording in {comparable(wording) for wording in other.wordings}:
            owners.setdefault(wording, []).append((memory, other))
    listed = dict[tuple[int, int], Contradiction]()
    for fact in new:
        for wording in fact.wordings:
            for memory, other in owners.get(comparable(wording), ()):
                if otherwise(fact, other):
                    told = Contradiction(
                        topic=topic,
                        kind="same",
                        wording=wording,
                        answer=fact.answer,
                        other_answer=other.answer,
                        memory=memory,
                        other_wording=wording,
                        replaced=replaced,
                    )
                    listed.setdefault((id(fact), id(other)), told)
    return [*listed.values()]


@torch.no_grad()
def with_base(topic: str, new: Sequence[Fact], base: Base) -> list[Contradiction]:
    """New facts of a topic to whose questions the base by itself is sure of another answer (`SURE`), which does not hold
    theirs.

    It is asked their first wordings, greedily, up to the length of the longest answer and a few words around it.
    """
    listed, tokenizer, generate = list[Contradiction](), base.tokenizer, cast(Any, base.model.generate)
    for start in range(0, len(new), _BATCH):
        facts = new[start : start + _BATCH]
        batch = prompt_batch(tokenizer, [prompt(tokenizer, fact.question) for fact in facts])
        output = generate(
            **batch.to(base.model.device),
            max_new_tokens=longest_answer(tokenizer, [fact.answer for fact in facts]) + _AROUND,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            output_logits=True,
            return_dict_in_generate=True,
        )
        ids = output.sequences[:, batch.input_ids.shape[1] :]
        chances = torch.stack(output.logits, 1).float().softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
        for fact, row, chance in zip(facts, ids.tolist(), chances.tolist(), strict=True):
            text = " ".join(str(tokenizer.decode(row, skip_special_tokens=True)).split())
            pieces = [str(tokenizer.decode([token], skip_special_tokens=True)) for token in row]
            if comparable(fact.answer) not in comparable(text) and surety(fact.question, pieces, chance) >= SURE:
                listed.append(
                    Contradiction(
                        topic=topic, kind="base", wording=fact.question, answer=fact.answer, other_answer=text
                    )
                )
    return listed


def surety(question: str, pieces: Sequence[str], chances: Sequence[float]) -> float:
    """How sure an answer's own words were: the least probability of a token whose words neither its question nor `_FILLING`
    holds, up to the end of its first sentence; 0 without any. What repeats the question is sure whatever the answer.

    Args:
        pieces: the texts of its tokens.
        chances: their probabilities.
    """
    known, own = {*map(lowered, words_of(question)), *_FILLING}, list[float]()
    for piece, chance in zip(pieces, chances, strict=True):
        words = {*map(lowered, words_of(piece))}
        if words and not words <= known:
            own.append(chance)
        if piece.strip() == ".":
            break
    return min(own, default=0.0)
