"""Questions asked part by part: what is asked of each, and what the answers of a question come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lorary.answering.parts import joined, parts_of
from lorary.eval.asking import Said
from lorary.eval.questions import Question
from lorary.routing.policy import Route


def pieces(question: Question) -> list[Question]:
    """The parts of a question, as questions; where they are as many as its facts, each is of that fact's memory.

    What is chosen from options stays whole: the options answer all of it.
    """
    texts = [question.text] if question.options else parts_of(question.text)
    if len(texts) == 1:
        return [question]
    if len(texts) != len(question.parts):
        return [replace(question, text=text) for text in texts]
    pairs = zip(texts, question.parts, strict=True)
    return [replace(question, text=text, memory=memory, answer=answer, parts=()) for text, (memory, answer) in pairs]


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
