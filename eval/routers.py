"""How well the gate, the index and the policy find the memory that holds an answer, and how sure they rightly are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lorary.eval.conditions import CONDITIONS
from lorary.eval.deciders import Untrained
from lorary.eval.figures import Abstention, Calibration, CalibrationBin, Ranking
from lorary.eval.questions import Question, unrelated_questions
from lorary.eval.records import Prediction
from lorary.eval.routing_scores import RoutingScores
from lorary.eval.scoring import grouped
from lorary.routing.policy import decide
from lorary.statistics import auroc, bins_of, calibration_error, value

_BINS = 10
_SEVERAL = ("ask", "gate-two", "policy-two", "policy-parts")
"""Conditions that may answer from several memories, so that it is told whether they found all."""


def together(predictions: Sequence[Prediction]) -> float | None:
    """The share of questions on several memories whose route holds them all; None where there is no such question."""
    several = [p for p in predictions if len(p.memories) > 1]
    hits = [set(p.memories) <= set(p.answered_by) for p in several]
    return sum(hits) / len(hits) if hits else None


def routing(
    scores: RoutingScores, questions: Sequence[Question], predictions: Mapping[str, Sequence[Prediction]]
) -> dict[str, Ranking]:
    """Router → how often it finds the memories of questions that a memory holds.

    Of a question on several memories, top-1 is whether the best is one of them, top-3 whether all are among the three
    best, and `together` whether all are among as many best, or, of a policy, of what mixes two and of what asks part by
    part, in the route. A policy's top-1 counts "none" as wrong; it is None where the policy was not asked. Of a lookup
    top-1 is whether the nearest fact is one of a right memory; it ranks no further.
    """
    recalled = [question for question in questions if question.recalled]
    texts = [question.text for question in recalled]
    names = scores.router.bank.names
    right = torch.tensor([[name in q.memories for name in names] for q in recalled], dtype=torch.bool)
    probabilities, votes = scores.of(texts)
    found = {"gate": ranked(probabilities[:, :-1], right), "index": ranked(votes, right)}
    for name, condition in CONDITIONS.items():
        if isinstance(condition.decider, Untrained) and name in predictions:
            found[name] = ranked(condition.decider.ranking(texts, scores), right)
    for name in ("policy", *(name for name in _SEVERAL if name in predictions)):
        own = [p for p in predictions.get(name, ()) if p.memory]
        found[name] = Ranking(top1=_found(own), top3=found["gate"].top3, together=together(own))
    if "lookup" in predictions:
        found["lookup"] = Ranking(top1=_found([p for p in predictions["lookup"] if p.memory]))
    return found


def _found(predictions: Sequence[Prediction]) -> float | None:
    """The share whose heaviest memory holds the answer; None of nothing."""
    return sum(p.found for p in predictions) / len(predictions) if predictions else None


def abstention(scores: RoutingScores, questions: Sequence[Question]) -> Abstention:
    """How well the gate parts known from unrelated questions, and from each kind of question that no memory holds."""

    def sure(texts: Sequence[str]) -> Float[Tensor, " queries"]:
        return 1 - scores.of(texts)[0][:, -1]

    known = sure([question.text for question in questions if question.recalled])
    unrelated = unrelated_questions()
    unheld = grouped((question for question in questions if not question.memory), lambda question: question.kind)
    by_kind = {kind: value(auroc(known, sure([q.text for q in own]))) for kind, own in sorted(unheld.items())}
    gate_alone = replace(scores.router.policy, sources=("gate",))
    probabilities, votes = scores.of(unrelated)
    left = decide(probabilities, votes, gate_alone).source == 0
    return Abstention(
        auroc=value(auroc(known, sure(unrelated))),
        auroc_by_kind=by_kind,
        unrelated_questions=len(unrelated),
        gate_leaves_unrelated=share(left),
    )


def share(hits: Tensor) -> float | None:
    """The share of what is 1; None of nothing."""
    return float(hits.float().mean()) if hits.numel() else None


def ranked(scores: Float[Tensor, "questions memories"], right: Bool[Tensor, "questions memories"]) -> Ranking:
    """How well scores rank the memories that are right."""
    right = right.to(scores.device)
    count = right.sum(-1)
    several = count > 1
    return Ranking(
        top1=share(_all_among(scores, right, torch.full_like(count, 1))),
        top3=share(_all_among(scores, right, torch.full_like(count, 3))),
        together=share(_all_among(scores[several], right[several], count[several])),
    )


def _all_among(
    scores: Float[Tensor, "questions memories"], right: Bool[Tensor, "questions memories"], k: Int[Tensor, " questions"]
) -> Bool[Tensor, " questions"]:
    """Whether the k best of each question hold all memories that are right, or as many of them as can be among k."""
    order = right.gather(-1, scores.argsort(dim=-1, descending=True))
    best = torch.arange(scores.shape[-1], device=k.device) < k.unsqueeze(-1)
    return (order & best).sum(-1) == torch.minimum(right.sum(-1), k)


def calibration(predictions: Sequence[Prediction]) -> Calibration | None:
    """How often the gate's choice is right, by how sure it was, over questions that a memory holds; None without any.

    Bins are of equal width, and empty ones are left out.
    """
    routes = [(p.route.confidence, p.found) for p in predictions if p.memory and p.route and p.route.source == "gate"]
    if not routes:
        return None
    sure = torch.tensor([confidence for confidence, _ in routes])
    right = torch.tensor([found for _, found in routes])
    place = bins_of(sure, _BINS)
    bins = tuple(
        CalibrationBin(
            confidence=float(sure[place == number].mean()),
            right=float(right[place == number].float().mean()),
            questions=int((place == number).sum()),
        )
        for number in place.unique().tolist()
    )
    error = value(calibration_error(sure, right, bins=_BINS))
    assert error is not None  # there are routes
    return Calibration(questions=len(routes), error=error, bins=bins)
