"""The same facts asked as people would, by what they want of them: a task made by seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from lorary.bank.facts import Fact, read_lines
from lorary.eval.tasks.generated import Attribute, Task, TaskError, asked, cast, invent, spread
from lorary.tables import counted

USES = (
    "direct",
    "indirect",
    "yes-no",
    "choose",
    "complete",
    "reversed",
    "compare",
    "count",
    "about",
    "background",
)
"""The kinds of the questions, in this order."""
_LEAST = 4
"""People of a topic, so that two pairs of them have different values."""
_HOW_MANY = ("none", "one", "two")


@dataclass(frozen=True)
class Use:
    """How one attribute is asked for beyond its direct and indirect wordings; nothing of it is trained on.

    `{first}` and `{second}` are values in `choose`, and people in `compare` and `count`.
    """

    name: str
    yes_no: str
    choose: str
    complete: str
    reversed: str
    compare: str
    count: str
    background: str


@dataclass(frozen=True)
class _Stated:
    """An attribute of the people of one topic: the fact and the value of each."""

    attribute: Attribute
    use: Use
    topic: str
    people: Sequence[str]
    values: Sequence[str]

    @property
    def facts(self) -> list[Fact]:
        return [self.attribute.fact(self.topic, *own) for own in zip(self.people, self.values, strict=True)]


def uses(entities: int = 16, topics: int = 4, stated: int = 3, seed: int = 0) -> Task:
    """Invented people and their attributes, asked in ten uses: directly, by yes or no, reversed, in a longer text, ...

    Each statement is asked about rightly and wrongly, each choice in both orders, and each count once for each number: who
    always says the same is right half of the time, or a third. Two people each share the first attribute: these are
    compared and counted; what two share is not asked in reverse.

    Args:
        entities: how many people.
        topics: how many memories they are spread over, four people or more each.
        stated: how many attributes each person has, 2 to 7.
        seed: of people, values and wrong answers.
    """
    if stated < 2:
        raise TaskError(f"{counted(stated, 'stated attribute')} cannot be made; give 2 or more: one is shared")
    if entities < _LEAST * topics:
        raise TaskError(
            f"{counted(entities, 'person', 'people')} cannot be spread over {counted(topics, 'topic')}; give {_LEAST} a topic"
        )
    known, _, people, random = cast(entities, stated, seed)
    own_uses = {line["name"]: Use(**line) for _, line in read_lines(Path(__file__).parent / "uses.jsonl")}
    by_topic: dict[str, list[int]] = {}
    for number, topic in enumerate(spread("uses", entities, topics)):
        by_topic.setdefault(topic, []).append(number)
    values = {attribute.name: invent(attribute.value, entities, random) for attribute in known}
    facts, questions = list[Fact](), list[dict[str, Any]]()
    for topic, numbers in by_topic.items():
        names = [people[number] for number in numbers]
        of_topic = list[Fact]()
        for attribute in known:
            own = [values[attribute.name][number] for number in numbers]
            if attribute is known[0]:
                own = [own[place - place % 2] for place in range(len(own))]
            about = _Stated(attribute, own_uses[attribute.name], topic, names, own)
            of_topic += about.facts
            questions += _asked(about, random)
        facts += of_topic
        questions += [_about(topic, person, of_topic[place :: len(names)]) for place, person in enumerate(names)]
    questions.sort(key=lambda line: USES.index(line["kind"]))
    return Task(tuple(facts), tuple(questions))


def _asked(about: _Stated, random: Random) -> Iterator[dict[str, Any]]:
    """The questions on an attribute of a topic's people."""
    use, shared = about.use, len({*about.values}) < len(about.values)
    for fact, person, value in zip(about.facts, about.people, about.values, strict=True):
        other = random.choice([wrong for wrong in about.values if wrong != value])
        yield asked(fact, "direct", fact.held_out[:1])
        yield asked(fact, "indirect", [wording.format(entity=person) for wording in about.attribute.indirect])
        for told, answer in ((value, "Yes"), (other, "No")):
            wording = use.yes_no.format(entity=person, value=told)
            yield _closed(fact, "yes-no", wording, answer, ("Yes", "No"))
        for options in ((value, other), (other, value)):
            wording = use.choose.format(entity=person, first=options[0], second=options[1])
            yield _closed(fact, "choose", wording, value, options)
        yield asked(fact, "complete", [use.complete.format(entity=person)])
        yield asked(fact, "background", [use.background.format(entity=person)]) | {"free": True}
        if not shared:
            yield asked(fact, "reversed", [use.reversed.format(value=value)]) | {"answer": person}
    if shared:
        yield from _together(about)


def _closed(fact: Fact, kind: str, wording: str, answer: str, options: tuple[str, ...]) -> dict[str, Any]:
    """A line of questions whose answer is one of some options."""
    return asked(fact, kind, [wording]) | {"answer": answer, "options": list(options)}


def _together(about: _Stated) -> Iterator[dict[str, Any]]:
    """The questions on two people: as many who share a value as who do not, and each count equally often."""
    people, values = about.people, about.values
    pairs = len(people) // 2
    for pair in range(pairs):
        first, second, other, last = ((2 * pair + step) % (2 * pairs) for step in range(4))
        for own, answer in (((first, second), "Yes"), ((second, other), "No")):
            wording = about.use.compare.format(first=people[own[0]], second=people[own[1]])
            yield _of_two(about, "compare", wording, answer, ("Yes", "No"))
        for own, answer in zip(((other, last), (first, other), (first, second)), _HOW_MANY, strict=True):
            named = {"first": people[own[0]], "second": people[own[1]], "value": values[first]}
            yield _of_two(about, "count", about.use.count.format(**named), answer, _HOW_MANY)


def _of_two(about: _Stated, kind: str, wording: str, answer: str, options: tuple[str, ...]) -> dict[str, Any]:
    line = {"topic": about.topic, "question": wording, "answer": answer, "options": list(options)}
    return line | {"kind": kind}


def _about(topic: str, person: str, facts: Sequence[Fact]) -> dict[str, Any]:
    """The line of questions that asks for all that is stated of a person."""
    parts = [{"topic": topic, "answer": fact.answer} for fact in facts]
    return {"question": f"Tell me about {person}.", "parts": parts, "kind": "about", "free": True}
