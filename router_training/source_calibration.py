"""Calibration of the sources: how likely each answer is to be right, fitted on validation wordings and on questions that
nothing answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lorary.answering.evidence import Evidence
from lorary.answering.judging import Draft, gather
from lorary.answering.lookup import same
from lorary.answering.passages import with_passages
from lorary.answering.routed import by_route, draft_of
from lorary.answering.sources import DEFAULTS, ONE, REGRESSIONS, Coefficients
from lorary.base.prompts import longest_answer
from lorary.model.modeling import LoraryForCausalLM
from lorary.router_training.data import RoutingData
from lorary.router_training.minimising import minimise
from lorary.router_training.near_misses import near_misses

_AT_ONCE = 32
_PULL = 30.0
"""Of the squared distance of the coefficients from where they started, beside nats: as much as so many questions tell."""
_UNKNOWN = 0.25
"""Weight of all questions that nothing answers, beside that of the validation wordings."""


@dataclass(frozen=True)
class Judged:
    """A question to calibrate on, with what is known of it.

    Args:
        answer: None where nothing answers it.
        weight: how much it counts.
    """

    draft: Draft
    evidence: Evidence
    answer: str | None
    weight: float

    def right(self, source: str) -> bool:
        """Whether a source's answer is right; of the base, whether nothing stored is."""
        if source == "base":
            return self.answer is None
        reply, lookup = self.evidence.reply, self.evidence.lookup
        texts = {"memory": reply.text if reply else None, "lookup": lookup.stored.fact.answer if lookup else None}
        said = texts[source]
        return self.answer is not None and said is not None and same(said, self.answer)


def fit_logistic(
    features: Float[Tensor, "questions features"],
    right: Float[Tensor, " questions"],
    weights: Float[Tensor, " questions"],
    start: Float[Tensor, " features"],
    pull: float = _PULL,
) -> Float[Tensor, " features"]:
    """The coefficients with the least weighed negative log-likelihood and squared distance from where they started.

    A ridge towards a prior mean (maximum a posteriori under a normal prior; Murphy 2012, section 8.3.6): without questions
    they stay, and a few move them little.
    """
    moved = torch.zeros_like(start, requires_grad=True)

    def loss() -> Tensor:
        misfit = functional.binary_cross_entropy_with_logits(features @ (start + moved), right, reduction="none")
        return (weights * misfit).sum() + pull * moved.square().sum()

    minimise([moved], loss)
    return (start + moved).detach()


def fit_sources(judged: Sequence[Judged], start: Coefficients = DEFAULTS) -> dict[str, dict[str, float]]:
    """The coefficients of every regression, fitted on the questions that it is for."""
    fitted = {}
    for regression, names in REGRESSIONS.items():
        source, _, unrouted = regression.partition(", ")
        own = [one for one in judged if bool(unrouted) == (one.evidence.reply is None)]
        own = [one for one in own if source != "lookup" or one.evidence.lookup is not None]
        begun = torch.tensor([start.get(regression, {}).get(name, 0.0) for name in (*names, ONE)])
        if own:
            rows = torch.stack([_row(one, names) for one in own])
            right = torch.tensor([float(one.right(source)) for one in own])
            begun = fit_logistic(rows, right, torch.tensor([one.weight for one in own]), begun)
        fitted[regression] = {name: round(value, 4) for name, value in zip((*names, ONE), begun.tolist(), strict=True)}
    return fitted


def _row(judged: Judged, names: Sequence[str]) -> Float[Tensor, " features"]:
    features = judged.evidence.features(judged.draft.route)
    return torch.tensor([*(features[name] for name in names), 1.0])


def judged(model: LoraryForCausalLM, questions: Sequence[tuple[str, str | None, float]]) -> list[Judged]:
    """Questions with their answers and weights as the composite meets them: routed, answered by their memories, looked up."""
    policy = replace(model.router.policy, passages=0)
    room = longest_answer(model.tokenizer, (answer for _, answer, _ in questions if answer is not None)) + 1
    order = sorted(questions, key=lambda question: len(question[0]))
    drafts = list[Draft]()
    for start in range(0, len(order), _AT_ONCE):
        prompts = [with_passages(model, text, 0) for text, _, _ in order[start : start + _AT_ONCE]]
        drafts += [draft_of(model, reply) for reply in by_route(model, prompts, policy, room, {})]
    # Of all at once: many questions are compared with the same wordings, which are then encoded once.
    evidence = gather(model, drafts)
    return [
        Judged(draft, known, answer, weight)
        for draft, known, (_, answer, weight) in zip(drafts, evidence, order, strict=True)
    ]


def questions_of(model: LoraryForCausalLM, data: RoutingData) -> list[tuple[str, str | None, float]]:
    """(question, its answer, its weight) of what sources are calibrated on: validation wordings, and questions that nothing
    answers, which together weigh `_UNKNOWN` times as much, each kind of them alike."""
    validation, none = data.validation.examples, len(model.router.bank)
    known = [(example.text, example.answer, 1.0) for example in validation if example.of_fact]
    kinds = [
        [example.text for example in validation if example.memory == none],
        [example.text for example in data.strangers.examples],
        near_misses(model.router, data.seed),
    ]
    kinds = [kind for kind in kinds if kind]
    share = _UNKNOWN * len(known) / max(len(kinds), 1)
    return [*known, *((text, None, share / len(kind)) for kind in kinds for text in kind)]


def calibrate_sources(model: LoraryForCausalLM, data: RoutingData) -> None:
    """Fits the coefficients by which a composite weighs the sources of an answer, in place.

    Where there are no validation wordings they are the defaults.
    """
    questions = questions_of(model, data)
    measured = judged(model, questions) if any(answer is not None for _, answer, _ in questions) else []
    model.config.sources = fit_sources(measured)
