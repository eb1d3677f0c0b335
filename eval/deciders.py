"""Who decides on a question's route: the composite's own routers, what the question's facts say, or a fixed rule."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from lorary.answering.exchange import EXCHANGE_FROM, nearest_trained
from lorary.answering.lookup import Stored, look_up
from lorary.eval.questions import Question
from lorary.eval.records import StoredFact
from lorary.eval.routing_scores import RoutingScores
from lorary.routing.policy import Policy, Route, decide

NONE = Route((), (), "none", 1.0)


@dataclass(frozen=True)
class Decider:
    """Decides on the route of each question."""

    needs_gate: ClassVar[bool] = False
    """Only a trained gate can."""
    needs_facts: ClassVar[bool] = False
    """Memories are found by their facts."""
    needs_sources: ClassVar[bool] = False
    """The composite's sources are calibrated."""
    for_text: ClassVar[bool] = True
    """It has a route for text that is no question, which is not the base's."""

    def routes(self, questions: Sequence[Question], scores: RoutingScores, seed: int) -> list[Route | None]:
        """The route of each question; None where the model decides it, token by token, while the answer is generated."""
        return [self.route(question, scores.router.bank.names, seed) for question in questions]

    def route(self, question: Question, names: Sequence[str], seed: int) -> Route:
        """The route of one question, of a decider that asks no router."""
        raise NotImplementedError

    def policy(self, policy: Policy) -> Policy:
        """The policy under which a model decides token by token."""
        return policy


@dataclass(frozen=True)
class BaseAlone(Decider):
    """No memory takes part."""

    for_text = False

    def route(self, question: Question, names: Sequence[str], seed: int) -> Route:
        return NONE


@dataclass(frozen=True)
class Oracle(Decider):
    """The right memories, with weights that sum to 1 as a gate's do at most: what the best router could give.

    Args:
        full: each has weight 1 instead.
    """

    full: bool = False
    for_text = False

    def route(self, question: Question, names: Sequence[str], seed: int) -> Route:
        memories = question.memories
        weight = 1.0 if self.full else 1 / max(len(memories), 1)
        return Route(memories, (weight,) * len(memories), "caller" if memories else "none", 1.0)


@dataclass(frozen=True)
class Exchanged(Oracle):
    """The right memory, asked in the trained wording that is nearest to the question, where one is near enough for `ask`."""

    needs_facts = True

    def wordings(self, questions: Sequence[Question], scores: RoutingScores) -> list[Question]:
        """The questions as the memory is asked them."""
        memories = [q.memories[0] if len(q.memories) == 1 else None for q in questions]
        near = nearest_trained(scores.router, [question.text for question in questions], memories)
        bar = scores.router.policy.t_exchange
        least = EXCHANGE_FROM if bar is None else bar
        return [
            replace(question, text=found[0]) if found is not None and found[1] >= least else question
            for question, found in zip(questions, near, strict=True)
        ]


@dataclass(frozen=True)
class Everything(Decider):
    """All memories, with equal weights that sum to 1, or, where `full`, with weight 1 each."""

    full: bool = False

    def route(self, question: Question, names: Sequence[str], seed: int) -> Route:
        return Route(tuple(names), (1.0,) * len(names) if self.full else alike(len(names)), "caller", 1.0)


@dataclass(frozen=True)
class Only(Decider):
    """One memory for every question."""

    memory: str

    def route(self, question: Question, names: Sequence[str], seed: int) -> Route:
        return Route((self.memory,), (1.0,), "caller", 1.0)


@dataclass(frozen=True)
class Wrong(Decider):
    """A memory that does not hold the answer, drawn by the seed and the question."""

    def route(self, question: Question, names: Sequence[str], seed: int) -> Route:
        wrong = [name for name in names if name not in question.memories] or list(names)
        return Route((random.Random(f"{seed}{question.text}").choice(wrong),), (1.0,), "caller", 1.0)


@dataclass(frozen=True)
class ByPolicy(Decider):
    """The composite's policy.

    Args:
        most: memories that the gate mixes; None: as many as the policy says.
    """

    most: int | None = None
    needs_gate = True

    def routes(self, questions: Sequence[Question], scores: RoutingScores, seed: int) -> list[Route | None]:
        if scores.model.config.granularity == "token":
            return [None] * len(questions)
        return [*self.decided(questions, scores)]

    def decided(self, questions: Sequence[Question], scores: RoutingScores) -> list[Route]:
        """The route of each question, decided once for the whole of it."""
        probabilities, votes = scores.of([question.text for question in questions])
        decision = decide(probabilities, votes, self.policy(scores.router.policy))
        return decision.routes(scores.router.bank.names)

    def policy(self, policy: Policy) -> Policy:
        return policy if self.most is None else replace(policy, top_k=self.most, top_p=1.0)


@dataclass(frozen=True)
class ByGate(ByPolicy):
    """The gate alone, without a threshold: nothing but its probability of none, in the weights, leaves the base its part."""

    def policy(self, policy: Policy) -> Policy:
        return super().policy(replace(policy, sources=("gate",), t_gate=0.0, whole=False))


@dataclass(frozen=True)
class ByIndex(ByPolicy):
    """The index alone, without a threshold."""

    needs_gate = False
    needs_facts = True

    def policy(self, policy: Policy) -> Policy:
        return super().policy(replace(policy, sources=("index",), t_index=0.0))


@dataclass(frozen=True)
class BestAlike(ByGate):
    """The gate's best memories, `most` of them, with equal weights: they cannot change from token to token."""

    def routes(self, questions: Sequence[Question], scores: RoutingScores, seed: int) -> list[Route | None]:
        decided = self.decided(questions, scores)
        return [replace(route, weights=alike(len(route.memories))) for route in decided]


@dataclass(frozen=True)
class Untrained(Decider):
    """The memory that a router without training puts first."""

    needs_facts = True

    def ranking(self, texts: list[str], scores: RoutingScores) -> Float[Tensor, "queries memories"]:
        """The score of each memory."""
        raise NotImplementedError

    def routes(self, questions: Sequence[Question], scores: RoutingScores, seed: int) -> list[Route | None]:
        best = self.ranking([question.text for question in questions], scores).argmax(-1).tolist()
        return [Route((scores.router.bank.names[number],), (1.0,), "caller", 1.0) for number in best]


@dataclass(frozen=True)
class Centroid(Untrained):
    """The memory whose mean fact embedding is nearest."""

    def ranking(self, texts: list[str], scores: RoutingScores) -> Float[Tensor, "queries memories"]:
        return scores.router.centroids(scores.embeddings(texts).cpu())


@dataclass(frozen=True)
class ByWords(Untrained):
    """The memory whose wordings BM25 puts first."""

    def ranking(self, texts: list[str], scores: RoutingScores) -> Float[Tensor, "queries memories"]:
        return scores.router.lexicon.votes(texts, scores.router.bank.names)


@dataclass(frozen=True)
class Lookup(Decider):
    """No model is asked: a question gets the stored answer of the fact whose trained wording is nearest."""

    needs_facts = True
    for_text = False

    def answers(self, questions: Sequence[Question], scores: RoutingScores) -> list[tuple[str, StoredFact | None]]:
        """The answer to each question, with the fact that holds it; "" and None where no fact is near."""
        found = look_up(scores.router, scores.embeddings([question.text for question in questions]))
        return [(stored.fact.answer, stored_fact(stored)) if stored else ("", None) for stored in found]


def stored_fact(stored: Stored) -> StoredFact:
    """A fact that was looked up, as it is recorded."""
    return StoredFact(stored.memory, stored.fact.question, round(stored.similarity, 4))


@dataclass(frozen=True)
class LikeliestRight(ByPolicy):
    """The policy decides on the memory; of its answer, the stored one and the base's the likeliest to be right is given."""

    needs_sources = True
    needs_facts = True
    for_text = False


@dataclass(frozen=True)
class Merged(Decider):
    """The composite is replaced by one whose only memory is all of them merged.

    Args:
        how: a way of `bank.merging.COMBINED`.
    """

    how: str


@dataclass(frozen=True)
class MergedBest(Merged):
    """The same of each question's best memories by the gate, so many; where it is sure of none, the base answers."""

    most: int = 3
    needs_gate = True

    def groups(self, questions: Sequence[Question], scores: RoutingScores) -> list[tuple[str, ...]]:
        """The names of each question's best memories, in alphabetical order."""
        return [tuple(sorted(route.memories)) for route in BestAlike(self.most).decided(questions, scores)]


def alike(count: int) -> tuple[float, ...]:
    """Equal weights that sum to 1."""
    return (1 / max(count, 1),) * count
