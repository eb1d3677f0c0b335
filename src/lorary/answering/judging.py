"""Judging: which source answers each of some questions, and how likely it is to be right, once the memories have answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.answering.evidence import Evidence, Reply, fits
from lorary.answering.likelihood import answer_probabilities
from lorary.answering.lookup import Stored, nearest, neighbours, same, stored_as
from lorary.answering.sources import chosen, known, probabilities
from lorary.routing.policy import Policy, Route

if TYPE_CHECKING:
    from lorary.model.modeling import LoraryForCausalLM

_AT_ONCE = 32
"""Answers whose likelihood one pass tells."""


@dataclass(frozen=True)
class Draft:
    """A question with its route and what the route's memories answered.

    Args:
        question: that is looked up.
        prompt: the text that the model read.
        said: what was answered; of the base it is not looked at.
        probability: how likely that was, a token on average; None where nothing watched.
    """

    question: str
    prompt: str
    route: Route
    said: str
    probability: float | None


@dataclass(frozen=True)
class Judgement:
    """Which source answers, and how likely each is to be right.

    Args:
        source: "memory", "lookup" or "base".
        probabilities: by source.
    """

    source: str
    probabilities: Mapping[str, float]
    evidence: Evidence

    @property
    def right(self) -> float:
        """The probability that what is said is right; of the base, that nothing stored answers the question."""
        return self.probabilities[self.source]

    @property
    def known(self) -> float:
        """How likely the likeliest of memory and lookup is to be right: what tells known questions from others."""
        return known(self.probabilities)


def judge(
    model: LoraryForCausalLM,
    drafts: Sequence[Draft],
    policy: Policy,
    embedding: Float[Tensor, "drafts embedding"] | None = None,
) -> list[Judgement]:
    """Which source answers each draft's question, by the composite's own coefficients. As `gather` otherwise."""
    judgements = []
    for draft, evidence in zip(drafts, gather(model, drafts, embedding), strict=True):
        likely = probabilities(model.config.sources, draft.route, evidence)
        judgements.append(Judgement(chosen(likely, policy), likely, evidence))
    return judgements


@torch.no_grad()
def gather(
    model: LoraryForCausalLM,
    drafts: Sequence[Draft],
    embedding: Float[Tensor, "drafts embedding"] | None = None,
) -> list[Evidence]:
    """What is known of each draft: its nearest stored fact, and what its memories make of that and of their own answer.

    Args:
        embedding: of the questions; they are embedded where it is None.
    """
    router, questions = model.router, [draft.question for draft in drafts]
    if embedding is None:
        embedding = router.features(questions).embedding
    embedding = embedding.cpu()
    near = neighbours(router, embedding)
    stored = [nearest(own) for own in near]
    answered = [row for row, draft in enumerate(drafts) if draft.route.memories]
    own: dict[int, Stored | None] = {}
    for row in answered:
        memories = [router.bank[name] for name in drafts[row].route.memories]
        own[row] = stored_as(memories, drafts[row].said, embedding[row])
    every = [*range(len(drafts)), *answered]
    told = fits(
        router,
        [questions[row] for row in every],
        embedding[every],
        [near[row] for row in every],
        [*stored, *(own[row] for row in answered)],
    )
    lookups, replies = told[: len(drafts)], dict(zip(answered, told[len(drafts) :], strict=True))
    likely = _likelihoods(model, drafts, stored, answered)
    evidence = []
    for row, draft in enumerate(drafts):
        reply = None
        if row in replies:
            sure = draft.probability if draft.probability is not None else likely[row, "own"]
            reply = Reply(draft.said, sure, likely.get((row, "stored")), replies[row])
        evidence.append(Evidence(lookups[row], reply, sum((row, which) in likely for which in ("own", "stored"))))
    return evidence


def _likelihoods(
    model: LoraryForCausalLM, drafts: Sequence[Draft], stored: Sequence[Stored | None], answered: Sequence[int]
) -> dict[tuple[int, str], float]:
    """How likely memories find the answer that was looked up, where theirs is another, and their own where nobody watched:
    by the draft's number and "stored" or "own"."""
    asks = list[tuple[int, str, str]]()
    for row in answered:
        draft, fact = drafts[row], stored[row]
        if fact is not None and not same(draft.said, fact.fact.answer):
            asks.append((row, "stored", fact.fact.answer))
        if draft.probability is None:
            asks.append((row, "own", draft.said))
    asks.sort(key=lambda ask: len(drafts[ask[0]].prompt))
    likely = dict[tuple[int, str], float]()
    for start in range(0, len(asks), _AT_ONCE):
        part = asks[start : start + _AT_ONCE]
        weights = torch.stack([weights_of(drafts[row].route, model.memories) for row, _, _ in part])
        told = answer_probabilities(model, [drafts[row].prompt for row, _, _ in part], [a for _, _, a in part], weights)
        likely |= {(row, which): sure for (row, which, _), sure in zip(part, told, strict=True)}
    return likely


def weights_of(route: Route, names: Sequence[str]) -> Float[Tensor, " memories"]:
    """The weight of each memory in a route."""
    shares = dict(zip(route.memories, route.weights, strict=True))
    return torch.tensor([shares.get(name, 0.0) for name in names])
