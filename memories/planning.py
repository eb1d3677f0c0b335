"""A capacity study as it lies on disk, and the plan it gives for a corpus: how many memories, which rank, what cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from lorary.bank.facts import Fact
from lorary.base.loading import load_base
from lorary.memories.rows import rows, with_validation
from lorary.memories.studies import Header, StudyError, header_of, read_results
from lorary.memories.writing import Recipe

SCHEMA = 2
SHIPPED = Path(__file__).with_name("capacity.json")
"""The study that a plan is made from where none is given, in installs that ship one."""
KEY_BYTES = 4 * 384
"""Bytes of one wording's key under the default encoder: 384 numbers in fp32."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One memory of the study.

    Args:
        load: facts in it.
        recall_trained: share of its facts recalled under every trained wording, by greedy decoding.
        recall_unseen: share recalled under a wording that no fact was trained on.
        seconds: of writing above the split; of memories written together, each one's share by row tokens.
        processor_seconds: the same in processor time; fewer on a busy machine, more where several threads work.
        bytes: of its adapter file.
        answer_tokens: of all its answers, each with the token that ends it.
        row_tokens: of all its rows (every trained wording with its answer), which one pass reads.
        shown: times that a fact was shown, on average over its facts; what is certain already is shown less often.
    """

    rank: int
    load: int
    seed: int
    recall_trained: float
    recall_unseen: float
    seconds: float
    processor_seconds: float
    bytes: int
    parameters: int
    answer_tokens: int
    row_tokens: int
    shown: float


@dataclass(kw_only=True)
class Study(Header):
    """All cells that were measured, and what made them; `recall` is the share that defines the knee."""

    recall: float
    cells: list[Cell]

    def to_json(self) -> dict[str, Any]:
        knees = {str(rank): getattr(self.knee(rank, self.recall), "load", None) for rank in self.ranks}
        return {
            "study": "capacity",
            **asdict(self),
            "knees": knees,
            "seeds": sorted({cell.seed for cell in self.cells}),
        }

    @property
    def ranks(self) -> list[int]:
        return sorted({cell.rank for cell in self.cells})

    def points(self, rank: int) -> list[Cell]:
        """The cells of one rank by load, averaged over seeds."""
        held = sorted((c for c in self.cells if c.rank == rank), key=lambda c: c.load)
        return [_mean(list(group)) for _, group in groupby(held, key=lambda c: c.load)]

    def knee(self, rank: int, recall: float) -> Cell | None:
        """The mean cell of the largest load whose mean recall under unseen wordings is at least `recall`, or None."""
        return next((cell for cell in reversed(self.points(rank)) if cell.recall_unseen >= recall), None)


def _mean(cells: Sequence[Cell]) -> Cell:
    """The mean cell of several seeds; counts are rounded, the seed is the number of seeds."""
    told: dict[str, Any] = {"seed": len(cells)}
    for name in (field.name for field in fields(Cell) if field.name != "seed"):
        mean = sum(getattr(cell, name) for cell in cells) / len(cells)
        told[name] = mean if isinstance(getattr(cells[0], name), float) else round(mean)
    return Cell(**told)


def read_study(place: str | Path) -> Study:
    """The study in a folder that `lorary capacity` wrote, or in its `results.json`. Raises StudyError for what is not."""
    path, told = read_results(place, "capacity", SCHEMA)
    try:
        return Study(**header_of(told), recall=told["recall"], cells=[Cell(**cell) for cell in told["cells"]])
    except (KeyError, TypeError) as error:
        raise StudyError(f"{path} is not a whole study ({error}); run `lorary capacity` again") from None


@dataclass(frozen=True)
class Topic:
    """What a plan needs to know of a topic: its facts, and the tokens of its answers, of its rows, and its wordings."""

    name: str
    facts: int
    answer_tokens: int
    row_tokens: int
    wordings: int


def count_topics(tokenizer: PreTrainedTokenizerBase, topics: Mapping[str, Sequence[Fact]]) -> list[Topic]:
    """The counts of each topic as `lorary build` would train on it."""
    found = []
    for name, given in topics.items():
        facts = [with_validation(fact, Recipe().validation_wordings) for fact in given]
        held = rows(tokenizer, [facts])
        answers = {row.fact: len(row.ids) - row.start for row in held}
        tokens, wordings = sum(len(row.ids) for row in held), sum(len(fact.trained) for fact in facts)
        found.append(Topic(name, len(facts), sum(answers.values()), tokens, wordings))
    return found


@dataclass(frozen=True, kw_only=True)
class Option:
    """What a corpus takes at one rank.

    Args:
        knee: the study's mean cell at the knee.
        largest: whether the knee is the largest load that the study measured, so that more may fit.
        parts: memories of each topic.
        expected: recall under an unseen wording that the study had at this many facts a memory.
    """

    rank: int
    knee: Cell
    largest: bool
    parts: Mapping[str, int]
    memories: int
    adapter_bytes: int
    key_bytes: int
    minutes: float
    expected: float


def parts_of(topic: Topic, limit: Cell) -> int:
    """How many memories a topic needs, so that none holds more facts, or more answer tokens, than `limit`."""
    return max(math.ceil(topic.facts / limit.load), math.ceil(topic.answer_tokens / limit.answer_tokens))


def options(topics: Sequence[Topic], study: Study, recall: float) -> list[Option]:
    """What the corpus takes at each rank that reaches `recall`, best first: fewest memories, then fewest bytes.

    Raises:
        StudyError: no rank reaches it.
    """
    found = []
    for rank in study.ranks:
        limit = study.knee(rank, recall)
        if limit is None:
            continue
        parts = {topic.name: parts_of(topic, limit) for topic in topics}
        points, facts = study.points(rank), sum(topic.facts for topic in topics)
        loads, shares = [c.load for c in points], [c.recall_unseen for c in points]
        expected = [t.facts / facts * float(np.interp(t.facts / parts[t.name], loads, shares)) for t in topics]
        memories = sum(parts.values())
        found.append(
            Option(
                rank=rank,
                knee=limit,
                largest=limit.load == loads[-1],
                parts=parts,
                memories=memories,
                adapter_bytes=memories * limit.bytes,
                key_bytes=KEY_BYTES * sum(topic.wordings for topic in topics),
                minutes=sum(t.row_tokens for t in topics) * passes() * token_seconds(study, limit) / 60,
                expected=sum(expected),
            )
        )
    if not found:
        best = max(study.cells, key=lambda cell: cell.recall_unseen)
        raise StudyError(
            f"no rank of the study recalls {recall:g} of its facts under unseen wordings; the best is rank {best.rank} "
            f"with {best.recall_unseen:.2f} of {best.load} facts; give a lower --recall, or a larger study"
        )
    return sorted(found, key=lambda option: (option.memories, option.adapter_bytes))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a corpus takes, by a study: its topics, the options at each rank (the first is the best), and the study."""

    topics: list[Topic]
    options: list[Option]
    recall: float
    study: Study
    source: str


def plan(
    topics: Mapping[str, Sequence[Fact]],
    *,
    capacity: str | Path | None = None,
    recall: float | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Plan:
    """How many memories, of which rank, at what cost, the facts of `topics` take by a measured study.

    Args:
        capacity: folder of the study; the shipped one by default.
        recall: the share of facts to recall under unseen wordings; the study's own by default.
        tokenizer: of the study's base, which is loaded by default.

    Raises:
        StudyError: no such study, or no rank of it reaches `recall`.
    """
    if capacity is None and not SHIPPED.exists():
        raise StudyError(
            "no study is shipped with this version; measure one by `lorary capacity --out FOLDER` and give it as "
            "--capacity FOLDER"
        )
    study = read_study(capacity or SHIPPED)
    if not study.cells:
        raise StudyError(f"{capacity} holds no finished cell yet; let `lorary capacity` go on")
    made, wanted = study.configuration, study.recall if recall is None else recall
    counted = count_topics(tokenizer or load_base(made["base"], revision=made.get("revision")).tokenizer, topics)
    found = options(counted, study, wanted)
    source = f"the study in {capacity}" if capacity else f"the shipped study, {SHIPPED.parent.name}/{SHIPPED.name}"
    return Plan(topics=counted, options=found, recall=wanted, study=study, source=source)


def passes() -> int:
    """At most, of writing: those over the layers with memories, and one below, which costs about as much.

    A study's cells tell the seconds of the former alone: it runs its facts below the split once for all of them.
    """
    return Recipe().max_epochs + 1


def token_seconds(study: Study, cell: Cell) -> float:
    """Seconds a row token and pass; of wall clock and processor the lesser, since others may have kept it waiting."""
    return min(cell.seconds, cell.processor_seconds) / (cell.row_tokens * int(study.configuration["exposures"]))
