"""Draws of what trains a gate, what calibrates it, and what is asked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.eval.questions import NEAR_COPY, similarity, words
from lorary.research.route_files import Line, Topic
from lorary.research.settings import StudyError

TRAINED, VALIDATION = 0.60, 0.15
"""Of a topic's questions, the shares that train the gate and that calibrate it; the rest is asked."""
NEW, REWORDED = "new", "reworded"
"""Kinds of questions asked: one that nothing trained in any wording, and another wording of a trained one."""


@dataclass(frozen=True)
class Asked:
    """A question that is asked; `number` names its line in its topic, in every draw the same."""

    text: str
    topic: str
    number: int
    kind: str = NEW


@dataclass(frozen=True)
class Draw:
    """One draw.

    Args:
        facts: what the memories hold; a fact whose wordings are all for validation trains nothing.
        documents: topic → the passages that its memory has read.
        asked: questions of the topics of `facts`.
        strangers: questions of topics that no memory is about.
        met: how many questions are not asked since they are near-copies of trained or validation wordings.
    """

    facts: list[Fact]
    documents: dict[str, tuple[Passage, ...]]
    asked: list[Asked]
    strangers: list[Asked]
    met: int


def strange_topics(topics: Sequence[Topic], count: int | None, seed: int) -> list[str]:
    """The names of the topics that are left out: so many, or a quarter.

    Raises:
        StudyError: fewer than two topics would be left.
    """
    wanted = max(1, round(len(topics) / 4)) if count is None else count
    if not 0 <= wanted <= len(topics) - 2:
        most = f"{len(topics)} topics can spare 0 to {len(topics) - 2}"
        raise StudyError(f"{wanted} topics cannot be left out as strangers: {most}; give another --strangers")
    return Random(f"strangers {seed}").sample([topic.name for topic in topics], wanted)


def draw_questions(topics: Sequence[Topic], seed: int, left_out: Collection[str] = ()) -> Draw:
    """The draw of a seed: of each topic's lines 60 % train, 15 % validate, 25 % are asked as new ones.

    A line that has further wordings is asked in one of those, and of a trained line they are asked as reworded ones. A
    question is met, and not asked, where it is a near-copy of a trained or validation wording of any topic (`similarity`
    of its words from `NEAR_COPY` on: nine tenths of the words in common, or one word more).

    Args:
        left_out: topics whose questions are all strangers.
    """
    facts, candidates, strangers = list[Fact](), list[Asked](), list[Asked]()
    for topic in topics:
        numbered = list(enumerate(topic.lines))
        if topic.name in left_out:
            strangers += [Asked(_asked(line)[0], topic.name, number) for number, line in numbered]
            continue
        order = Random(f"{seed} {topic.name}").sample(numbered, len(numbered))
        trained = max(1, round(TRAINED * len(order)))
        kept = trained + round(VALIDATION * len(order))
        for number, line in order[:trained]:
            facts.append(Fact(topic.name, line.questions[0], line.answer, line.questions[1:]))
            candidates += [Asked(text, topic.name, number, REWORDED) for text in line.reworded]
        for _, line in order[trained:kept]:
            question = line.questions[0]
            facts.append(Fact(topic.name, question, line.answer, validation=(question,)))
        candidates += [Asked(_asked(line)[0], topic.name, number) for number, line in order[kept:]]
    asked = _unmet(candidates, (wording for fact in facts for wording in (*fact.trained, *fact.validation)))
    documents = {topic.name: topic.documents for topic in topics if topic.name not in left_out}
    return Draw(facts, documents, asked, strangers, len(candidates) - len(asked))


def _asked(line: Line) -> tuple[str, ...]:
    return line.reworded or line.questions


def _unmet(questions: Iterable[Asked], wordings: Iterable[str]) -> list[Asked]:
    """The questions that are near-copies of none of the wordings."""
    bags = {words(wording) for wording in wordings}
    owned = ((question, words(question.text)) for question in questions)
    return [question for question, own in owned if not any(similarity(own, bag) >= NEAR_COPY for bag in bags)]
