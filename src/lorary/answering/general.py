"""General questions: what may be asked of anyone or anything, so that a question for what no fact states lies near to one.

How near a question is to a stored fact says little alone: an odd wording of what is stated may lie no nearer than a plain
question for something else. Beside how near it is to questions that ask for other things, it does.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from lorary.bank.facts import read_lines
from lorary.routing.encoder import Encoder

GAP = "{name}"
"""Where a general question has the name of what it asks about."""
_ITSELF = 0.97
"""Cosine from which a general question is the question itself: near-misses to calibrate on are made of them."""


@lru_cache(maxsize=1)
def general_questions() -> tuple[str, ...]:
    """The shipped general questions, each with a gap (`GAP`)."""
    return tuple(line["question"] for _, line in read_lines(Path(__file__).parent / "general.jsonl"))


def unnamed(question: str) -> str:
    """A general question as one without names reads (`proper_names.without_names`)."""
    return question.replace(f"{GAP}'s", "their").replace(GAP, "they")


_held: list[tuple[Encoder, Tensor]] = []
"""The encoders last asked and what each makes of the general questions; a caller's own encoder need not be hashable."""


def _embedded(encoder: Encoder) -> Float[Tensor, "general embedding"]:
    global _held
    for known, embedded in _held:
        if known is encoder:
            return embedded
    embedded = encoder.encode([unnamed(question) for question in general_questions()])
    _held = [(encoder, embedded), *_held[:3]]
    return embedded


def elsewhere(encoder: Encoder, bare: Float[Tensor, "questions embedding"]) -> Float[Tensor, " questions"]:
    """The cosine of each question without names and the general one that is nearest to it.

    What a stranger scores belongs beside what is claimed, as in speaker verification (cohort normalisation; Auckenthaler et
    al. 2000, "Score normalization for text-independent speaker verification systems").
    """
    near = bare @ _embedded(encoder).T
    return near.masked_fill(near >= _ITSELF, -1.0).amax(-1)
