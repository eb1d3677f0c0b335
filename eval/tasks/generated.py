"""Tasks made by seed: facts to build memories from, and questions of several kinds to ask the composite."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from lorary.bank.facts import Fact, group_by_topic, read_lines
from lorary.bank.files import write_aside
from lorary.errors import LoraryError
from lorary.eval.questions import unrelated_questions
from lorary.tables import counted

_LINKS = ("seat", "heir")
"""Attributes that lead on from one entity to the next; they are no part of a person's profile."""

_MOST = 1_000_000
"""Different words or numbers that are invented; there are a few million, and the last ones take long to find."""


class TaskError(LoraryError):
    """A task that cannot be made: says what was given, and what is allowed."""


@dataclass(frozen=True)
class Task:
    """What a task gives.

    Args:
        facts: for `lorary build`.
        questions: lines for `lorary recall --questions`, as `questions.read_questions` takes them.
        notes: what a reader should know of how a file was read, such as what was left out; a line each.
    """

    facts: tuple[Fact, ...]
    questions: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()

    def write(self, out: Path) -> None:
        """Writes `facts.jsonl` and `questions.jsonl` into `out`; the same task may be written again, no other is replaced.

        Raises:
            FactError: facts that contradict; TaskError: a folder that cannot be written, or whose files hold something else.
        """
        group_by_topic(self.facts)
        lines = {"facts": [fact.to_json() for fact in self.facts], "questions": self.questions}
        files = {
            out / f"{name}.jsonl": "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in rows).encode()
            for name, rows in lines.items()
        }
        try:
            for path, content in files.items():
                if path.exists() and path.read_bytes() != content:
                    raise TaskError(
                        f"{path} stands already and holds something else; give another folder, or remove it"
                    )
            for path, content in files.items():
                write_aside(path, content)
        except OSError as error:
            raise TaskError(f"{out}: cannot be written ({error.strerror}); give a folder") from error


@dataclass(frozen=True)
class Attribute:
    """Wordings of one relation, with `{entity}` and `{value}` in them, and what its values look like."""

    name: str
    value: Literal["word", "person", "number"]
    trained: list[str]
    unseen: list[str]
    indirect: list[str]
    reversed: str
    statement: str

    def fact(self, topic: str, entity: str, value: str) -> Fact:
        """The fact that `value` is this attribute of `entity`."""
        first, *more = (wording.format(entity=entity) for wording in self.trained)
        held_out = tuple(wording.format(entity=entity) for wording in self.unseen)
        statement = self.statement.format(entity=entity, value=value)
        return Fact(topic, first, value, tuple(more), held_out, statement)


def phonebook(facts: int = 100, shards: int = 4, seed: int = 0) -> Task:
    """Names and their phone numbers, in shards of equal size.

    Args:
        facts: how many names.
        shards: how many memories they are spread over.
        seed: of names and numbers.
    """
    attribute, random = attributes()["phone number"], Random(seed)
    people = invent("person", facts, random)
    numbers = invent("number", facts, random)
    topics = spread("phonebook", facts, shards)
    stated_facts = tuple(attribute.fact(*row) for row in zip(topics, people, numbers, strict=True))
    return Task(stated_facts, tuple(asked(fact, "unseen", fact.held_out) for fact in stated_facts))


def profiles(
    entities: int = 40,
    topics: int = 4,
    stated: int = 6,
    split: Literal["entity", "attribute"] = "entity",
    seed: int = 0,
) -> Task:
    """Invented people and their attributes, asked in unseen, indirect and reversed wordings, and for what is unstated.

    Args:
        entities: how many people.
        topics: how many memories the people are spread over; a memory an attribute where `split` is attribute.
        stated: how many attributes each person has, 1 to 7; the others are asked for as unknown.
        split: whether the person or the attribute decides the memory.
        seed: of people and values.
    """
    known, unstated, people, random = cast(entities, stated, seed)
    places = spread("profiles", entities, topics)
    facts: list[Fact] = []
    questions: list[dict[str, Any]] = []
    for attribute in known:
        values = invent(attribute.value, entities, random)
        for person, value, place in zip(people, values, places, strict=True):
            topic = place if split == "entity" else attribute.name.replace(" ", "-")
            fact = attribute.fact(topic, person, value)
            back = attribute.reversed.format(value=value)
            facts.append(fact)
            questions.append(asked(fact, "unseen", fact.held_out))
            questions.append(asked(fact, "indirect", [w.format(entity=person) for w in attribute.indirect]))
            questions.append(asked(fact, "reversed", [back]) | {"answer": person})
    questions += [unheld(random.choice(unstated).trained[0].format(entity=p), "near-miss") for p in people]
    return Task(tuple(facts), tuple(questions))


def unknown(entities: int = 40, topics: int = 4, stated: int = 6, seed: int = 0) -> Task:
    """The facts of `profiles`, asked for what they hold and for what no memory holds.

    `near-miss` asks for an unstated attribute of a known person, `other-entity` for a stated attribute of an unknown
    one, `unrelated` for anything else.

    Args:
        entities: how many people are known; as many are unknown.
        topics: how many memories the people are spread over.
        stated: how many attributes each person has, 1 to 7.
        seed: of people and values.
    """
    facts = profiles(entities, topics, stated, seed=seed).facts
    known, unstated, people, random = cast(2 * entities, stated, seed)
    strangers = people[entities:]
    questions = [asked(fact, "unseen", fact.held_out[:1]) for fact in facts]
    questions += [unheld(random.choice(unstated).unseen[0].format(entity=p), "near-miss") for p in people[:entities]]
    questions += [unheld(random.choice(known).unseen[0].format(entity=p), "other-entity") for p in strangers]
    questions += [unheld(text, "unrelated") for text in unrelated_questions()]
    return Task(facts, tuple(questions))


def twohop(people: int = 40, topics: int = 4, seed: int = 0) -> Task:
    """People and their firms in half of the memories, firms and their towns in the other half; both must be joined.

    Args:
        people: how many people; half as many firms.
        topics: how many memories, an even number.
        seed: of people, firms and towns.
    """
    if topics < 2 or topics % 2:
        raise TaskError(f"two hops need an even number of topics, {topics} given")
    if people < topics - 1:
        raise TaskError(
            f"{counted(people, 'person', 'people')} cannot be spread over {counted(topics, 'topic')}; give {topics - 1} or more"
        )
    employer, seat, random = attributes()["employer"], attributes()["seat"], Random(seed)
    names, firms = invent("person", people, random), invent("word", (people + 1) // 2, random)
    towns = invent("word", len(firms), random)
    second = [seat.fact(*row) for row in zip(spread("firms", len(firms), topics // 2), firms, towns, strict=True)]
    based = dict(zip(firms, second, strict=True))
    first = [
        employer.fact(topic, name, firms[i % len(firms)])
        for i, (topic, name) in enumerate(zip(spread("people", people, topics // 2), names, strict=True))
    ]
    questions = [
        asked(fact, kind, fact.held_out)
        for kind, facts in (("first-hop", first), ("second-hop", second))
        for fact in facts
    ]
    for name, fact in zip(names, first, strict=True):
        wordings = [
            f"In which town is the firm based that employs {name}?",
            f"Where is the head office of {name}'s employer?",
        ]
        town = based[fact.answer]
        # Its memory is the one that holds the answer; its cluster is the person's.
        questions.append(asked(fact, "two-hop", wordings) | {"answer": town.answer, "topic": town.topic})
    return Task((*first, *second), tuple(questions))


def attributes() -> dict[str, Attribute]:
    """The shipped attributes by name."""
    return {line["name"]: Attribute(**line) for _, line in read_lines(Path(__file__).parent / "attributes.jsonl")}


def asked(fact: Fact, kind: str, wordings: Sequence[str]) -> dict[str, Any]:
    """A line of questions that asks a fact in other words."""
    line = {"topic": fact.topic, "question": fact.question, "answer": fact.answer}
    return line | {"held_out": list(wordings), "kind": kind}


def taught(fact: Fact, kind: str) -> dict[str, Any]:
    """A line of questions that asks a fact as it is taught, and says so."""
    return {"topic": fact.topic, "question": fact.question, "answer": fact.answer, "kind": kind, "trained": True}


def unheld(text: str, kind: str, answer: str | None = None) -> dict[str, Any]:
    """A line of questions that asks for what no memory holds; without an answer there is nothing to recall."""
    return {"topic": None, "question": text, "answer": answer, "kind": kind}


def cast(entities: int, stated: int, seed: int) -> tuple[list[Attribute], list[Attribute], list[str], Random]:
    """(stated attributes, unstated ones, people, what further draws are taken from)."""
    of_people = [attribute for attribute in attributes().values() if attribute.name not in _LINKS]
    if not 1 <= stated < len(of_people):
        raise TaskError(f"{stated} stated attributes are not possible; give 1 to {len(of_people) - 1}")
    random = Random(seed)
    random.shuffle(of_people)
    # People are drawn by a source of their own, so that a longer list begins with the shorter one.
    return of_people[:stated], of_people[stated:], invent("person", entities, Random(seed + 1)), random


def spread(name: str, count: int, topics: int) -> list[str]:
    """The topic of each of `count` things, in `topics` runs whose lengths differ by one at most."""
    if count < 1:
        raise TaskError(f"{name} of {counted(count, 'thing')} cannot be made; give 1 or more")
    if not 1 <= topics <= count:
        raise TaskError(
            f"{counted(count, 'thing')} cannot be spread over {counted(topics, 'topic')}; give 1 to {counted(count, 'topic')}"
        )
    return [f"{name}-{i * topics // count + 1:0{len(str(topics))}d}" for i in range(count)]


def invent(kind: Literal["word", "person", "number"], count: int, random: Random) -> list[str]:
    """So many different invented words, names of people, or numbers of seven digits."""
    draw: dict[str, Callable[[], str]] = {
        "word": lambda: _word(random),
        "person": lambda: f"{_word(random)} {_word(random)}",
        "number": lambda: f"{random.randrange(10**7):07d}",
    }
    if count > _MOST:
        raise TaskError(f"{count} different names or numbers cannot be invented; give {_MOST} at most")
    drawn: dict[str, None] = {}
    while len(drawn) < count:
        drawn[draw[kind]()] = None
    return list(drawn)


def _word(random: Random) -> str:
    """An invented word of two or three syllables."""
    syllables = [random.choice("bdfghklmnprstvwz") + random.choice("aeiou") for _ in range(random.choice((2, 2, 3)))]
    return "".join([*syllables, random.choice("lmnrsx")]).capitalize()
