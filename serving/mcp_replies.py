"""What the tools of an agent give back, and what they take, as the protocol's schemas tell it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class GivenFact(BaseModel):
    """A fact to remember."""

    model_config = ConfigDict(extra="forbid")

    question: Annotated[str, Field(min_length=1, max_length=2000, description="a question that names what it is about")]
    answer: Annotated[
        str, Field(min_length=1, max_length=2000, description="the short answer, without a sentence around")
    ]
    questions: Annotated[
        list[str],
        Field(max_length=64, description="other wordings of the question; the more, the better it is recalled"),
    ] = []
    statement: Annotated[str | None, Field(description="a sentence that holds the answer as it is written")] = None


class Passage(BaseModel):
    """A passage that stood before the question."""

    text: str
    memory: str
    source: str
    similarity: float


class Route(BaseModel):
    """Which memories a question goes to.

    Args:
        memories: names; none where the base answers alone.
        decided_by: gate, index, lookup, caller or none.
    """

    memories: list[str]
    decided_by: str
    confidence: float


class Recalled(BaseModel):
    """An answer with where it comes from.

    Args:
        outcome: who answered: memory, lookup, index or base.
        probability: of the answer's tokens, on average.
        right: the calibrated probability that the answer is right; null where nothing was calibrated.
    """

    answer: str
    outcome: str
    route: Route
    probability: float | None
    right: float | None
    passages: list[Passage]


class Which(BaseModel):
    """Where a question would go, and why."""

    route: Route
    why: str
    nearest_wording: str | None
    nearest_memory: str | None


class HeldFact(BaseModel):
    """A fact of a memory, with the id that `forget` takes."""

    id: str
    question: str
    answer: str


class HeldMemory(BaseModel):
    """A memory.

    Args:
        recall: the share of its validation wordings that it recalls, as its certificate has it; null where not measured.
        held: its facts; given where the memory was named.
    """

    name: str
    facts: int
    passages: int
    recall: float | None
    held: list[HeldFact] | None = None


class Listed(BaseModel):
    """The memories."""

    base: str
    memories: list[HeldMemory]


class Remembered(BaseModel):
    """What was written.

    Args:
        changes: of each memory: its version, facts added, updated and removed, what the new facts contradict.
        notes: what was kept as text, or left out.
    """

    changes: list[dict[str, Any]]
    notes: list[str]


class Forgot(BaseModel):
    """What was forgotten.

    Args:
        holds: whether the proof holds: nothing in the bank knows or tells the facts any more.
        still_told: what still tells them, where it does not.
        earlier_versions: what is left on disk, and how it goes.
    """

    memory: str
    facts: list[str]
    left_the_bank: bool
    holds: bool
    still_told: list[str]
    earlier_versions: str
