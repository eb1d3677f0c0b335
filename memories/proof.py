"""The proof that facts are forgotten: pure figures of how likely their answers are, before and behind a memory.

A memory that was written without a fact knows as much of it as the base, but not the same: it has learned what its other
facts are like, so answers of their kind become likelier, right or wrong. So a right answer is compared with wrong ones of
its kind, as a truth ratio does (TOFU; Maini et al. 2024, arXiv 2401.06121), and what the memory adds to that is compared
with what it adds for facts that it never knew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from lorary.statistics import same_distribution, upper_bound

LEVEL = 0.05
"""The probability of calling a fact known, of all that are proved together, where none is."""


def truth_ratios(
    right: Float[Tensor, " wordings"], wrong: Float[Tensor, "wordings answers"]
) -> Float[Tensor, " wordings"]:
    """How likely wrong answers are beside the right one, under each wording of a fact: above 1 for what is not known.

    Args:
        right, wrong: mean log-probabilities of the answers' tokens, in nats.
    """
    return (wrong.logsumexp(-1) - math.log(wrong.shape[-1]) - right).exp()


def edge(right: Float[Tensor, " wordings"], wrong: Float[Tensor, "wordings answers"]) -> float:
    """By how many nats a token the right answer is likelier than wrong ones, the mean over wordings."""
    return float(-truth_ratios(right, wrong).log().mean())


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a model says of one fact.

    Args:
        recalled: under how many of its wordings greedy decoding gives the whole answer.
        probability: of the right answer, a token on average over its wordings.
        truth_ratio: the mean over its wordings.
        edge: of the right answer over wrong ones, in nats a token.
    """

    recalled: int
    probability: float
    truth_ratio: float
    edge: float


def measured(
    right: Float[Tensor, " wordings"],
    wrong: Float[Tensor, "compared answers"],
    recalled: Sequence[bool],
) -> Measured:
    """The figures of one fact; wrong answers are asked for under the first of its wordings."""
    beside = right[: len(wrong)]
    return Measured(
        recalled=sum(recalled),
        probability=float(right.exp().mean()),
        truth_ratio=float(truth_ratios(beside, wrong).mean()),
        edge=edge(beside, wrong),
    )


@dataclass(frozen=True, kw_only=True)
class FactProof:
    """One fact as the rewritten memory and the base know it.

    Args:
        wordings: how many it was asked in.
        bound: the most that a memory adds to the edge of a fact that it never knew.
    """

    id: str
    question: str
    answer: str
    wordings: int
    memory: Measured
    base: Measured
    bound: float

    @property
    def lift(self) -> float:
        """What the memory adds to the edge of the right answer, in nats a token."""
        return self.memory.edge - self.base.edge

    @property
    def forgotten(self) -> bool:
        """Whether the memory knows it no better than the base."""
        return self.memory.recalled <= self.base.recalled and self.lift <= self.bound


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a rewritten memory still knows of the facts that it was to forget, beside the base and beside control facts.

    Args:
        controls: the lifts of facts that the memory never knew.
        ratios: the truth ratios of the controls under the memory.
    """

    facts: tuple[FactProof, ...]
    controls: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def known(self) -> tuple[FactProof, ...]:
        """The facts that the memory still knows."""
        return tuple(fact for fact in self.facts if not fact.forgotten)

    @property
    def p_base(self) -> float:
        """The p-value of the facts' truth ratios under the memory and under the base being alike."""
        return same_distribution(
            [fact.memory.truth_ratio for fact in self.facts], [fact.base.truth_ratio for fact in self.facts]
        )

    @property
    def p_never_known(self) -> float:
        """The p-value of the facts' lifts being no greater than those of facts that the memory never knew."""
        return same_distribution([fact.lift for fact in self.facts], self.controls, greater=True)

    @property
    def holds(self) -> bool:
        """Whether all are forgotten, one by one and together."""
        return not self.known and self.p_never_known >= LEVEL

    def to_json(self) -> dict[str, Any]:
        facts = [asdict(fact) | {"lift": fact.lift, "forgotten": fact.forgotten} for fact in self.facts]
        tests = {"p_base": self.p_base, "p_never_known": self.p_never_known, "holds": self.holds}
        return {"facts": facts, "controls": list(self.controls), "control_truth_ratios": list(self.ratios), **tests}


def proof(
    facts: Sequence[tuple[str, str, str, int, Measured, Measured]], controls: Sequence[tuple[Measured, Measured]]
) -> Proof:
    """The proof for facts (id, question, answer, wordings, by the memory, by the base) beside controls (memory, base)."""
    lifts = tuple(memory.edge - base.edge for memory, base in controls)
    bound = upper_bound(lifts, LEVEL / max(len(facts), 1))
    proved = tuple(
        FactProof(id=i, question=q, answer=a, wordings=n, memory=memory, base=base, bound=bound)
        for i, q, a, n, memory, base in facts
    )
    return Proof(facts=proved, controls=lifts, ratios=tuple(memory.truth_ratio for memory, _ in controls))
