"""The conditions of a recall run: who routes a question, and what stands before it in the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorary.errors import LoraryError
from lorary.eval.deciders import (
    BaseAlone,
    BestAlike,
    ByGate,
    ByIndex,
    ByPolicy,
    ByWords,
    Centroid,
    Decider,
    Everything,
    Exchanged,
    LikeliestRight,
    Lookup,
    Merged,
    MergedBest,
    Only,
    Oracle,
    Wrong,
)
from lorary.eval.meanings import ALL, EACH, MEANINGS


class ConditionError(LoraryError):
    """A condition that there is not, or that cannot be run here: says which, and what there is."""


@dataclass(frozen=True)
class Condition:
    """What a question meets.

    Args:
        meaning: one line for the table.
        decider: who routes it.
        passages: what stands before it, a kind of `contexts.KINDS`; "" for nothing.
        parted: whether each part of a question is asked on its own, under its own route.
    """

    meaning: str
    decider: Decider
    passages: str = ""
    parted: bool = False

    @property
    def free(self) -> bool:
        """Whether it answers in words of the base's own choice, since no memory taught it to give the answer alone."""
        return isinstance(self.decider, BaseAlone) or bool(self.passages)

    @property
    def needs_facts(self) -> bool:
        """Whether it finds memories or passages by facts and their embeddings."""
        return self.decider.needs_facts or self.passages == "index"

    @property
    def for_text(self) -> bool:
        """Whether it does something of its own to text that is no question: damage can be measured."""
        return self.decider.for_text and not (self.passages or self.parted)


def _called(name: str, decider: Decider, passages: str = "", *, parted: bool = False) -> tuple[str, Condition]:
    """A condition with its name, by which its meaning is told."""
    return name, Condition(MEANINGS[name], decider, passages, parted)


CONDITIONS: dict[str, Condition] = dict(
    [
        _called("base", BaseAlone()),
        _called("lookup", Lookup()),
        _called("oracle", Oracle()),
        _called("exchanged", Exchanged()),
        _called("gate", ByGate()),
        _called("index", ByIndex()),
        _called("policy", ByPolicy()),
        _called("ask", LikeliestRight()),
        _called("centroid", Centroid()),
        _called("lexicon", ByWords()),
        _called("oracle-sum", Oracle(full=True)),
        _called("gate-two", ByGate(2)),
        _called("top-three", BestAlike(3)),
        _called("policy-two", ByPolicy(2)),
        _called("oracle-parts", Oracle(), parted=True),
        _called("policy-parts", ByPolicy(), parted=True),
        _called("uniform", Everything()),
        _called("shuffled", Wrong()),
        _called("in-context-all", BaseAlone(), "all"),
        _called("in-context-topic", BaseAlone(), "topic"),
        _called("passages", BaseAlone(), "index"),
        _called("bm25", BaseAlone(), "bm25"),
        _called("hybrid", ByPolicy(), "index"),
        _called("oracle-passages", Oracle(), "index"),
        _called("merged-exact", Everything(full=True)),
        _called("merged-ties", Merged("ties")),
        _called("merged-three-ties", MergedBest("ties", 3)),
        _called("merged-linear", Merged("linear")),
    ]
)
"""Every condition that needs no name of a memory, in the order of `MEANINGS`."""


def known(memories: Sequence[str]) -> dict[str, Condition]:
    """Every condition that there is over the memories, by name: `CONDITIONS`, and each memory alone, called only-NAME."""
    return CONDITIONS | {
        f"only-{memory}": Condition("one memory for every question", Only(memory)) for memory in memories
    }


def choose(names: Sequence[str], memories: Sequence[str]) -> dict[str, Condition]:
    """The conditions called `names`, in that order; `each` is one for each of the memories, and `all` is all of them.

    Raises:
        ConditionError: an unknown one.
    """
    every = known(memories)
    stand_for = {EACH: [name for name in every if name not in CONDITIONS], ALL: [*every]}
    if unknown := [name for name in names if name not in every and name not in stand_for]:
        raise ConditionError(f"condition {unknown[0]!r} is unknown; choose from {[*CONDITIONS, EACH, ALL]}")
    return {each: every[each] for name in names for each in stand_for.get(name, [name])}
