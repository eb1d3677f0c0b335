"""One run: asks condition after condition, by the composite or by another model in its place, and keeps what stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lorary.answering.answers import joined
from lorary.answering.passages import PassageError, check_fits
from lorary.bank.bank import MemoryBank
from lorary.bank.memory import Memory
from lorary.base.prompts import longest_answer
from lorary.eval import results as stored
from lorary.eval.asking import Ask, Asker, Said
from lorary.eval.best_source import by_likeliest
from lorary.eval.conditions import Condition
from lorary.eval.contexts import Contexts
from lorary.eval.deciders import Exchanged, LikeliestRight, Lookup
from lorary.eval.questions import Question, headline, pieces
from lorary.eval.records import ConditionResult, Prediction, Predictions, Results
from lorary.eval.routing_scores import RoutingScores
from lorary.eval.scoring import condition_result, prediction
from lorary.eval.shared_states import LowerStates
from lorary.model.modeling import LoraryForCausalLM
from lorary.routing.policy import Policy, Route


class Run:
    """Asks the questions of one run.

    Args:
        results: the conditions that stand are not asked again; what is new is written after each condition.
        out: folder of the results.
        passages: how many a question gets from the index and from BM25.
        free_tokens: how many more than the longest answer's a condition gets that answers in words of its own.
        seed: of the wrong memories and the bootstrap.
    """

    def __init__(
        self,
        model: LoraryForCausalLM,
        questions: Sequence[Question],
        results: Results,
        predictions: Predictions,
        out: Path,
        *,
        passages: int,
        free_tokens: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.model, self.questions, self.results, self.predictions = model, questions, results, predictions
        self.out, self.batch_size, self.seed = out, batch_size, seed
        self.contexts = Contexts(model, passages)
        self.new_tokens = longest_answer(model.tokenizer, [q.answer for q in questions if q.answer is not None]) + 1
        self.free_tokens = free_tokens
        self.lower = LowerStates(model.config.split_layer)
        self.asker = self.asker_of(model)
        self.scores = RoutingScores(model)

    def asker_of(self, model: LoraryForCausalLM) -> Asker:
        """Who asks a model, which may be another than the composite."""
        return Asker(model, batch_size=self.batch_size, lower=self.lower)

    def all(
        self,
        chosen: Mapping[str, Condition],
        advance: Callable[..., None],
        other: LoraryForCausalLM | None = None,
        routes: Sequence[Route] | None = None,
    ) -> None:
        """Runs the conditions that do not stand yet, by the composite or by another model.

        Args:
            routes: the route of each question, where the conditions' own do not tell them.
        """
        asker, scores = (self.asker, self.scores) if other is None else (self.asker_of(other), RoutingScores(other))
        for name, condition in chosen.items():
            if name in self.results.conditions:
                advance(len(self.questions), f"{name}: reused")
                continue
            try:
                contexts = self.contexts.of(condition.passages, self.questions)
                check_fits(self.model, contexts, self.longest(condition) + 128)
            except PassageError as error:
                if condition.passages != "all":
                    raise
                self.skip(name, condition, str(error))
                advance(len(self.questions), f"{name}: skipped")
                continue
            self._one(name, condition, contexts, asker, scores, partial(advance, note=name), routes)
            self.write()

    def longest(self, condition: Condition) -> int:
        """The longest answer under a condition, in tokens: the base's own words need room before they come to it."""
        return self.new_tokens + (self.free_tokens if condition.free else 0)

    def skip(self, name: str, condition: Condition, why: str) -> None:
        """Notes that a condition cannot be run."""
        self.results.conditions[name] = ConditionResult(meaning=condition.meaning, skipped=why)

    def keep(self, name: str, meaning: str, predictions: list[Prediction], began: float, *, generated: int) -> None:
        """Keeps the predictions of a condition and what they come to.

        Args:
            began: when it was begun, by `time.perf_counter`.
            generated: how many answers no earlier condition had given.
        """
        self.predictions[name] = predictions
        self.results.conditions[name] = condition_result(
            predictions, self.seed, meaning=meaning, seconds=time.perf_counter() - began, generated=generated
        )

    def write(self) -> None:
        """Writes what stands."""
        stored.write(self.results, self.predictions, self.out)

    def _one(
        self,
        name: str,
        condition: Condition,
        contexts: Sequence[str],
        asker: Asker,
        scores: RoutingScores,
        advance: Callable[[int], None],
        routes: Sequence[Route] | None,
    ) -> None:
        began, known = time.perf_counter(), len(asker.kept)
        decider = condition.decider
        if isinstance(decider, Lookup):
            predictions = looked_up(name, self.questions, decider, scores)
            advance(len(predictions))
            self.keep(name, condition.meaning, predictions, began, generated=len(predictions))
            return
        parts = [pieces(question) if condition.parted else [question] for question in self.questions]
        if isinstance(decider, Exchanged):
            parts = [[question] for question in decider.wordings(self.questions, scores)]
        decided = routes or decider.routes([part for own in parts for part in own], scores, self.seed)
        predictions = answered(
            name,
            self.questions,
            decided,
            asker,
            new_tokens=self.longest(condition),
            free_tokens=0 if condition.free else self.free_tokens,
            parts=parts,
            contexts=contexts,
            policy=decider.policy(asker.model.router.policy),
            # Parts are more than the questions that the bar counts.
            advance=(lambda _: None) if condition.parted else advance,
        )
        if condition.parted:
            advance(len(predictions))
        if isinstance(decider, LikeliestRight):
            predictions = by_likeliest(predictions, self.questions, asker, scores, new_tokens=self.longest(condition))
        self.keep(name, condition.meaning, predictions, began, generated=len(asker.kept) - known)


def answered(
    name: str,
    questions: Sequence[Question],
    routes: Sequence[Route | None],
    asker: Asker,
    *,
    new_tokens: int,
    free_tokens: int = 0,
    parts: Sequence[Sequence[Question]] | None = None,
    contexts: Sequence[str] | None = None,
    policy: Policy | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Prediction]:
    """The predictions of questions under routes, by name of the condition.

    Args:
        routes: one for each of the parts, in order.
        free_tokens: how many tokens more a question gets that asks for sentences.
        parts: what is asked for each question; the question alone where it is None.
        contexts: what stands before each question, and before each of its parts.
    """
    parts = parts if parts is not None else [[question] for question in questions]
    contexts = contexts if contexts is not None else [""] * len(questions)
    flat = [(part, context) for own, context in zip(parts, contexts, strict=True) for part in own]
    asks = [
        Ask(q.text, context, route, policy, new_tokens + q.free * free_tokens)
        for (q, context), route in zip(flat, routes, strict=True)
    ]
    # A context holds a passage a line.
    each = iter(
        said._replace(route=replace(said.route, passages=len(context.splitlines())))
        for said, (_, context) in zip(asker.answers(asks, advance), flat, strict=True)
    )
    whole = [together([next(each) for _ in own]) for own in parts]
    options = [replace(ask, option=o) for ask, (q, _) in zip(asks, flat, strict=True) for o in q.options]
    judged = iter(asker.likelihoods(options))
    return [
        prediction(
            name,
            question,
            said.text,
            said.route,
            probability=said.probability,
            scored=scored,
            likelihoods={option: next(judged) for option in question.options},
        )
        for question, said, scored in zip(questions, whole, headline(questions), strict=True)
    ]


def together(said: Sequence[Said]) -> Said:
    """The answers of a question's parts as one, under all their memories, heaviest first.

    The source is that of the first part which a memory answered, confidence is that of the
    least sure part, the probability that of the least likely part which a memory answered.
    """
    if len(said) == 1:
        return said[0]
    weights: dict[str, float] = {}
    routes = [part.route for part in said]
    for route in routes:
        for name, weight in zip(route.memories, route.weights, strict=True):
            weights[name] = max(weight, weights.get(name, 0.0))
    names = sorted(weights, key=lambda name: -weights[name])
    whole = Route(
        tuple(names),
        tuple(weights[name] for name in names),
        next((route.source for route in routes if route.memories), "none"),
        min(route.confidence for route in routes),
        sum(route.passages for route in routes),
    )
    sure = [part.probability for part in said if part.probability is not None and part.route.memories]
    return Said(joined(part.text for part in said), whole, min(sure, default=None))


def looked_up(name: str, questions: Sequence[Question], lookup: Lookup, scores: RoutingScores) -> list[Prediction]:
    """The predictions of questions whose answers are looked up, by name of the condition; no model is asked."""
    answers = zip(questions, lookup.answers(questions, scores), headline(questions), strict=True)
    return [
        prediction(name, question, answer, None, scored=scored, stored=fact)
        for question, (answer, fact), scored in answers
    ]


def bank_of(model: LoraryForCausalLM, memories: Sequence[Memory]) -> MemoryBank:
    """A bank of other memories over the composite's base."""
    return replace(model.router.bank, memories={memory.name: memory for memory in memories})
