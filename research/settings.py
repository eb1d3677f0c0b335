"""What the studies can be asked: their settings and the names to choose from. It imports no torch, as their helps need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lorary.errors import LoraryError
from lorary.memories.recipe import Recipe

SET_NAMES = ("separable", "overlapping", "phone-book")
"""The generated sets of facts."""
INVENTED_WORDINGS = 8
"""Wordings at most that an invented fact is trained on."""
ARMS: dict[str, dict[str, Any]] = {
    "labels": {"language_weight": 0.0},
    "language": {"route_weight": 0.0, "none_weight": 0.0},
    "both": {},
    "soft-labels": {"language_weight": 0.0},
}
"""What a gate is trained by → what that changes in the training of "both"."""
VARIED = ("seed", "patience")
"""Settings that the study of gates sets itself."""
RIVALS = ("xlora", "arrow")
ANSWERING = (*RIVALS, "multilobe")
"""Routers of others that answer questions; the first ones also weigh the memories at each token."""
PARTS = ("number", "format", "generator", "rules")
OF_USES = ("default", "uses", "turned")
"""What the banks of the study of uses are written from."""
PASSES = 4
"""Passes that the visits of a fact are divided over; a memory is asked after each."""


class StudyError(LoraryError):
    """A study that cannot be run as it was asked for: says why and what to do."""


class RivalError(LoraryError):
    """A bank that a rival cannot route over: says why."""


def check_positive(name: str, value: int | tuple[int, ...]) -> None:
    """Raises StudyError where a number, or one of several, is below 1."""
    if not value or min(value if isinstance(value, tuple) else (value,)) < 1:
        raise StudyError(f"{name} must be positive, {value} given")


def check_some(name: str, values: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    """Raises StudyError where values are not some of those allowed."""
    if not values or {*values} - {*allowed}:
        raise StudyError(f"{name} must be some of {list(allowed)}, {list(values)} given")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is measured.

    Args:
        ranks: LoRA ranks to measure.
        loads: numbers of facts a memory to measure.
        seeds: sets of facts and first weights to measure, from seed 0.
        exposures: passes over the trained wordings of each fact, the same for all loads.
        wordings: trained wordings a fact, 1 to 8.
        recall: share of facts that a memory must recall under an unseen wording; the knee is the largest such load.
    """

    ranks: tuple[int, ...] = (1, 2, 4, 8, 16)
    loads: tuple[int, ...] = (25, 50, 100, 200, 400)
    seeds: int = 1
    exposures: int = Recipe().max_epochs
    wordings: int = 8
    recall: float = 0.9

    def __post_init__(self) -> None:
        for name in ("ranks", "loads", "seeds", "exposures"):
            check_positive(name, getattr(self, name))
        if not 1 <= self.wordings <= INVENTED_WORDINGS:
            raise StudyError(f"wordings must be 1 to {INVENTED_WORDINGS}, {self.wordings} given")
        if not 0 < self.recall <= 1:
            raise StudyError(f"recall must be a share above 0 and at most 1, {self.recall} given")


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is measured.

    Args:
        counts: numbers of wordings a fact to compare.
        texts: wordings of the reference, which formats and generators are compared with at as many texts.
        parts: parts of the study to run: number, format, generator, rules.
        seeds: draws of wordings, first weights and order to measure, from seed 0.
        exposures: times that each fact is shown, whatever its texts; a multiple of 4.
        facts_a_topic: facts to take of each topic, the first ones; all of them are one memory.
    """

    counts: tuple[int, ...] = (1, 2, 4, 8, 16, 24)
    texts: int = 8
    parts: tuple[str, ...] = PARTS
    seeds: int = 3
    exposures: int = 48
    facts_a_topic: int = 4

    def __post_init__(self) -> None:
        for name in ("counts", "texts", "seeds", "exposures", "facts_a_topic"):
            check_positive(name, getattr(self, name))
        if self.texts < 2:
            raise StudyError(f"texts must be 2 or more, so that there is something to replace, {self.texts} given")
        if self.exposures % PASSES:
            raise StudyError(f"exposures must be a multiple of {PASSES}, {self.exposures} given")
        check_some("parts", self.parts, PARTS)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What X-LoRA may spend on its training; Arrow trains nothing.

    Args:
        seconds: seconds of training on trained wordings, the preparation apart; Arrow trains nothing.
        batch_size: rows a training step.
        lr: AdamW learning rate, which falls to nothing over the training.

    Raises:
        RivalError: nothing could be trained so.
    """

    seconds: float = 60.0
    batch_size: int = 64
    lr: float = 3e-3

    def __post_init__(self) -> None:
        if not (self.seconds >= 0 and self.batch_size >= 1 and self.lr > 0):
            raise RivalError(
                f"X-LoRA cannot train with {self}; give 0 seconds or more, a batch size of 1 or more, and lr above 0"
            )


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """What is built, asked and forgotten.

    Args:
        authors: authors to build memories of, the first of the file; the first of them is forgotten.
        first_author: the number of the first author to take.
        questions: questions to ask of each author, in their paraphrases.
        facts: facts to forget of the second author's memory, the first ones.
        passages: passages to put before a question, where passages answer.
        new_tokens: tokens of an answer at most.
    """

    authors: int = 10
    first_author: int = 0
    questions: int = 20
    facts: int = 5
    passages: int = 3
    new_tokens: int = 64

    def __post_init__(self) -> None:
        for name in ("authors", "questions", "facts", "passages", "new_tokens"):
            check_positive(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Uses:
    """What the study of uses makes and asks.

    Args:
        entities: people of the task, four or more a topic.
        topics: memories that they are spread over.
        stated: attributes of each person, 2 to 7.
        seeds: seeds to measure.
        first_seed: first of the seeds; give 100 or more to choose by, since those below make the reported figures.
        taught: share of the people whose uses are taught; the others tell what carries over.
        recipes: by which banks are written: `default`, `uses` (with that format) and `turned` (each fact turned around, too).
    """

    entities: int = 16
    topics: int = 4
    stated: int = 3
    seeds: int = 3
    first_seed: int = 0
    taught: float = 0.5
    recipes: tuple[str, ...] = OF_USES

    def __post_init__(self) -> None:
        check_positive("seeds", self.seeds)
        check_some("recipes", self.recipes, OF_USES)
        object.__setattr__(self, "recipes", tuple(name for name in OF_USES if name in self.recipes))
