"""What a gate sees of queries that it is calibrated on: known ones, and strangers of each kind.

Every topic is a stranger to a bank without it: leaving topics out in turn gives real questions that no memory answers,
as near to what is known as people's questions are.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lorary.router_training.queries import Queries
from lorary.routing.features import KINDS, Features
from lorary.routing.gate import Gate
from lorary.routing.policy import nearest_memory
from lorary.routing.recognition import words_unknown
from lorary.routing.router import Router

FOLDS = 8
"""Groups of topics, each left out in turn."""
MOST = 2_000
"""Known questions that are looked at, at most."""
KNOWN, LEFT_OUT, OTHER_NAMES, UNRELATED = range(4)
"""What a query is: a memory knows it; its topic is left out; it is about a name that no memory knows; it is about nothing that
the memories tell of."""


_OF_WORDINGS = torch.tensor([kind in ("wordings", "wording_grams") for kind in KINDS])


@dataclass(frozen=True)
class Observed:
    """Queries as a gate sees them, a row each.

    Args:
        signs: by which they are recognised (`recognition.SIGNS`).
        unknown: the encoder does not know their words.
        share: of the likeliest memory among all memories.
        right: it is the right one.
        near: the index's best similarity, 0 where two memories share it.
        near_right: its memory is the right one.
        kind: KNOWN, or which strangers they are.
        fold: the group of topics that they belong to.
    """

    signs: Float[Tensor, "queries signs"]
    unknown: Bool[Tensor, " queries"]
    share: Float[Tensor, " queries"]
    right: Bool[Tensor, " queries"]
    near: Float[Tensor, " queries"]
    near_right: Bool[Tensor, " queries"]
    kind: Int[Tensor, " queries"]
    fold: Int[Tensor, " queries"]

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def known(self) -> Bool[Tensor, " queries"]:
        """Which of them a memory knows."""
        return self.kind == KNOWN

    def rows(self, chosen: Bool[Tensor, " queries"]) -> Observed:
        """Some of them."""
        return Observed(*(getattr(self, field.name)[chosen] for field in fields(Observed)))

    @staticmethod
    def joined(parts: Sequence[Observed]) -> Observed:
        """All of them, one after another."""
        return Observed(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Observed)))


def see(
    gate: Gate, features: Features, memory: Int[Tensor, " queries"], kind: int, fold: Int[Tensor, " queries"]
) -> Observed:
    """What the gate sees of queries of one kind.

    Args:
        memory: the number of each one's memory; any number that no memory has, for strangers.
    """
    assert features.contents is not None, "a query is recognised by the contents"
    known = gate(features)[:, :-1].softmax(-1)
    share, best = known.max(-1)
    near, nearest = nearest_memory(features.votes)
    return Observed(
        gate.signs(features),
        words_unknown(features.contents),
        share,
        (best == memory) & (kind == KNOWN),
        near,
        (nearest == memory) & (kind == KNOWN),
        torch.full((len(features),), kind),
        fold,
    )


@torch.no_grad()
def observe(
    router: Router, known: Sequence[Queries], others: Queries, unrelated: Sequence[Queries], *, folds: int = FOLDS
) -> Observed:
    """Known queries, the same with their topics left out, those about unknown names, and unrelated ones.

    Args:
        known: those of them that no memory knows are unrelated ones.
        others: about unknown names.
    """
    memories, gate = len(router.bank), router.gate
    folds = min(folds, memories)
    parts = list[Observed]()
    chosen = [_rows(queries, memories) for queries in known]
    step = max(1, -(-sum(map(len, chosen)) // MOST))
    for queries, rows in zip(known, chosen, strict=True):
        rows = rows[::step]
        memory = queries.memory[rows]
        parts.append(see(gate, queries.features.rows(rows), memory, KNOWN, memory % folds))
        texts = [queries.examples[i].text for i in rows.tolist()]
        if memories > 1:
            parts += _left_out(router, texts, queries.features.rows(rows), memory, folds)
    strangers = [(others, torch.arange(len(others)), OTHER_NAMES)]
    strangers += [(queries, (queries.memory >= memories).nonzero().squeeze(-1), UNRELATED) for queries in unrelated]
    for queries, rows, kind in strangers:
        if len(rows):
            numbers = torch.arange(len(rows)) % folds
            parts.append(see(gate, queries.features.rows(rows), torch.full((len(rows),), memories), kind, numbers))
    return Observed.joined(parts)


def _rows(queries: Queries, memories: int) -> Int[Tensor, " known"]:
    return (queries.memory < memories).nonzero().squeeze(-1)


def _left_out(
    router: Router, texts: Sequence[str], features: Features, memory: Int[Tensor, " queries"], folds: int
) -> list[Observed]:
    """What gates without their topics see of known queries: a fold of topics is left out at a time."""
    names, seen = router.bank.names, list[Observed]()
    for fold in range(folds):
        rows = (memory % folds == fold).nonzero().squeeze(-1)
        if not len(rows):
            continue
        kept = torch.tensor([number for number in range(len(names)) if number % folds != fold])
        left_out = [name for number, name in enumerate(names) if number % folds == fold]
        gate = deepcopy(router.gate)
        gate.keep(kept)
        own = features.rows(rows)
        asked, remaining = [texts[i] for i in rows.tolist()], [names[number] for number in kept.tolist()]
        without = router.contents.without(left_out)
        contents = without.scores(asked, own.embedding, router.knows_words(asked), remaining)
        assert own.contents is not None
        # Nor do they meet wordings that a question of theirs is not compared with when it is known.
        own = own.over(kept, torch.where(_OF_WORDINGS, torch.minimum(contents, own.contents[:, kept]), contents))
        seen.append(see(gate, own, torch.full((len(rows),), -1), LEFT_OUT, torch.full((len(rows),), fold)))
    return seen
