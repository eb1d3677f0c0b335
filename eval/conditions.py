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
    Lookup,
    Merged,
    MergedBest,
    Only,
    Oracle,
    Wrong,
)


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


CONDITIONS: dict[str, Condition] = {
    "base": Condition("the base alone", BaseAlone()),
    "lookup": Condition("no model; the stored answer of the fact with the nearest trained wording", Lookup()),
    "oracle": Condition("the right memory, told", Oracle()),
    "gate": Condition("the gate alone", ByGate()),
    "index": Condition("the index alone", ByIndex()),
    "policy": Condition("gate, then index, then none", ByPolicy()),
    "centroid": Condition("the memory whose mean fact embedding is nearest", Centroid()),
    "lexicon": Condition("the memory that BM25 puts first", ByWords()),
    "oracle-sum": Condition("the right memories, told, each with weight 1", Oracle(full=True)),
    "gate-two": Condition("the gate alone, mixing its two best memories", ByGate(2)),
    "top-three": Condition("the exact mean of the gate's three best memories", BestAlike(3)),
    "policy-two": Condition("gate, then index, then none; the gate mixes its two best memories", ByPolicy(2)),
    "oracle-parts": Condition("each part of the question under the right memory, told", Oracle(), parted=True),
    "policy-parts": Condition("each part of the question by the policy, on its own", ByPolicy(), parted=True),
    "uniform": Condition("all memories, equal weights", Everything()),
    "shuffled": Condition("a wrong memory", Wrong()),
    "in-context-all": Condition("no memory; all facts in the prompt", BaseAlone(), "all"),
    "in-context-topic": Condition(
        "no memory; the right topic's facts in the prompt, a random topic's where none is right", BaseAlone(), "topic"
    ),
    "passages": Condition("no memory; the index's passages in the prompt", BaseAlone(), "index"),
    "bm25": Condition("no memory; BM25's passages in the prompt", BaseAlone(), "bm25"),
    "hybrid": Condition("the policy's memory and the index's passages", ByPolicy(), "index"),
    "merged-exact": Condition("the exact sum of all memories", Everything(full=True)),
    "merged-ties": Condition("all memories merged by TIES, equal weights", Merged("ties")),
    "merged-three-ties": Condition(
        "the gate's three best memories merged by TIES, for each question anew", MergedBest("ties", 3)
    ),
    "merged-linear": Condition("all memories' A and B averaged apart", Merged("linear")),
}
EACH, ALL = "each", "all"
"""Stand for a condition for each single memory of the composite, and for every condition and each memory."""

FIRST = ("base", "lookup", "oracle", "gate", "index", "policy", "uniform", "shuffled")
"""The conditions that a composite alone offers: what is run by default."""

PARTS = ("questions", "retention", "latency")
"""What a run measures: answers, damage to text, times."""


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
