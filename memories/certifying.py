"""What a certificate tells of a memory: the wordings it was measured under, the facts that fail, the damage to what has
nothing to do with it, and how full it is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from lorary.bank.facts import Fact
from lorary.bank.memory import Memory
from lorary.base.layers import bare_twin
from lorary.base.loading import Base
from lorary.base.prompts import first_tokens, prompt_ids
from lorary.memories.capacity_study import SHIPPED, CapacityStudy, read_capacity
from lorary.memories.recipe import FORMATS
from lorary.memories.rows import ASKED, EVALUATED, Row, Store, asked, rows, validation_rows
from lorary.model.active_route import ActiveRoute, apply_route
from lorary.model.mixture import install
from lorary.statistics import wilson

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""Module path → (A, B with the scaling folded in)."""
Hits = Sequence[Sequence[bool]]
"""Of each fact, whether its whole answer is recalled under each of its wordings."""
UNRELATED = (
    "The kettle had been on the stove for so long that nobody remembered who had filled it. When it began to sing, three "
    "people stood up at once and then sat down again, each sure that another would go.",
    "To mend a torn sleeve, turn the jacket inside out and lay the edges together without pulling. Use a thread of the same "
    "colour, make small stitches, and finish with a knot that is pressed flat.",
    "Water expands when it freezes, which is why pipes burst in winter and why ice floats. Most other liquids shrink as they "
    "become solid, and their crystals sink.",
    "In the afternoon the wind turned to the west and the clouds broke up. By evening the road was dry, and children were "
    "drawing on it with pieces of brick.",
    "A majority of the members voted to postpone the decision until the report is published. The committee will meet again "
    "next month to discuss the costs.",
)
"""Text of no topic, which no memory is written from; about 190 tokens."""


def measured_under(facts: Sequence[Fact], formats: Sequence[str] = FORMATS, most: int | None = ASKED) -> dict[str, Any]:
    """The wordings that a certificate's recall is of: how many of each kind, and a hash by which to know them again.

    Args:
        most: trained texts of a fact at most, which is told as `a_fact`; None for all, as older certificates have it.
    """
    chosen = [asked(fact, formats, most) for fact in facts]
    kinds = {kind: [text for own in chosen for text in own[kind]] for kind in ("questions", "cloze")}
    kinds["validation"] = [wording for fact in facts for wording in fact.validation]
    told = json.dumps(kinds, sort_keys=True, ensure_ascii=False)
    counts = {kind: len(own) for kind, own in kinds.items()} | ({} if most is None else {"a_fact": most})
    return {**counts, "sha256": sha256(told.encode()).hexdigest()}


def failing(trained: Hits, validation: Hits) -> dict[str, list[int]]:
    """The numbers of the facts, from 0, that are not recalled under every wording of a kind."""
    kinds = {"trained": trained, "validation": validation}
    return {kind: [n for n, own in enumerate(hits) if not all(own)] for kind, hits in kinds.items()}


def share_of_facts(hits: Hits) -> float | None:
    """The share of facts recalled under every wording, of those that have one; None where none has."""
    facts = [all(own) for own in hits if own]
    return 1 - (len(facts) - sum(facts)) / len(facts) if facts else None


def recalls(trained: Hits, validation: Hits) -> dict[str, Any]:
    """What a certificate tells of recall: the share of facts recalled under every wording of a kind, and for each kind the
    share by wording, as a user meets it, and by fact, with 95 % intervals.

    Wordings of a fact fail together, so either interval is one of as many questions as there are facts (Wilson 1927).
    """
    kinds = {"trained": trained, "validation": validation}
    return {
        **{f"recall_{kind}_wordings": share_of_facts(hits) for kind, hits in kinds.items()},
        "recall_by_wording": {kind: _interval(_share_of_wordings(hits), hits) for kind, hits in kinds.items()},
        "recall_by_fact": {kind: _interval(share_of_facts(hits), hits) for kind, hits in kinds.items()},
    }


def _share_of_wordings(hits: Hits) -> float | None:
    every = [hit for own in hits for hit in own]
    return sum(every) / len(every) if every else None


def _interval(share: float | None, hits: Hits) -> dict[str, float] | None:
    if share is None:
        return None
    return {name: round(figure, 4) for name, figure in wilson(share, sum(bool(own) for own in hits)).items()}


@torch.no_grad()
def damage(base: Base, split_layer: int, factors: Factors) -> float:
    """The perplexity of unrelated text with a memory always on, as a multiple of the base's: 1 is no damage.

    Args:
        split_layer: no factor is of a layer below it.
    """
    start = max(1, len(first_tokens(base.tokenizer)))
    texts = [Row(0, 0, tuple(ids), start) for ids in prompt_ids(base.tokenizer, list(UNRELATED))]
    alone = replace(base, model=bare_twin(base.model))
    store = Store(alone, split_layer, texts, None)
    before = _mean_loss(store)
    install(alone.model, [dict(factors)])
    with _always_on(base):
        return math.exp(_mean_loss(store) - before)


def _mean_loss(store: Store) -> float:
    logits, labels, _ = store.states.logits(range(len(store.rows)))
    return float(nn.functional.cross_entropy(logits, labels))


def _always_on(base: Base) -> AbstractContextManager[object]:
    """The route of the only memory, with weight 1."""
    return apply_route(ActiveRoute(torch.ones(1, 1, 1, device=base.model.device, dtype=base.model.dtype)))


def recalled(
    base: Base, split_layer: int, memory: Memory, formats: Sequence[str], most: int | None = ASKED
) -> tuple[Hits, Hits]:
    """What a memory recalls now of its facts by greedy decoding: under trained wordings, and under validation wordings.

    Args:
        formats: what of its facts it was trained on (`Recipe.formats`).
        most: trained texts of a fact at most; None for all.
    """
    alone = replace(base, model=bare_twin(base.model))
    shown = [row for row in rows(base.tokenizer, [memory.facts], formats=formats, most_asked=most) if row.counted]
    stores = [Store(alone, split_layer, own, None) for own in (shown, validation_rows(base.tokenizer, [memory.facts]))]
    install(alone.model, [memory.factors()])
    trained, validation = (_hits(base, store, len(memory.facts)) for store in stores)
    return trained, validation


@torch.no_grad()
def _hits(base: Base, store: Store, facts: int) -> Hits:
    hits: list[list[bool]] = [[] for _ in range(facts)]
    right = dict(_right(base, store))
    for number, row in enumerate(store.rows):
        hits[row.fact].append(right[number])
    return hits


def _right(base: Base, store: Store) -> Iterator[tuple[int, bool]]:
    """(number, whether greedy decoding would give the whole answer) of each row."""
    for chunk in store.batches(range(len(store.rows)), EVALUATED, None):
        with _always_on(base):
            logits, labels, place = store.states.logits(chunk)
        wrong = torch.zeros(len(chunk), device=labels.device).index_add(0, place, (logits.argmax(-1) != labels).float())
        yield from zip(chunk, (wrong == 0).tolist(), strict=True)


def capacity(rank: int, base: str) -> int | None:
    """The facts that a memory of a rank holds by the shipped study; None for a rank or a base that it did not measure."""
    study = _study()
    if study is None or study.configuration.get("base") != base or rank not in study.ranks:
        return None
    knee = study.knee(rank, study.recall)
    return None if knee is None else knee.load


@cache
def _study() -> CapacityStudy | None:
    return read_capacity(SHIPPED) if SHIPPED.exists() else None


def fullness(facts: int, rank: int, base: str) -> dict[str, Any]:
    """How full a memory is: its facts, how many one of its rank holds by the shipped study, and their quotient."""
    holds = capacity(rank, base)
    return {"holds": holds, "full": None if holds is None else round(facts / holds, 3)}
