"""Questions that join facts, made by seed: a story followed through its chapters, and two topics in one question."""

from __future__ import annotations

from random import Random
from typing import Any

from lorary.bank.facts import Fact
from lorary.eval.tasks.generated import Attribute, Task, TaskError, asked, attributes, cast, invent, profiles
from lorary.tables import counted


def story(chapters: int = 8, people: int = 3, stated: int = 4, hops: int = 3, seed: int = 0) -> Task:
    """A story whose people have their heirs in the next chapter, asked across chapters (`2-hop`: the heir of one).

    The facts' statements, in order, are its text.

    Args:
        chapters: how many; a memory each.
        people: of each chapter; the heir of each is in the next one.
        stated: how many attributes each person has beside the heir, 1 to 7.
        hops: the most facts that a question joins, each in another chapter.
        seed: of people and values.
    """
    if min(chapters, people) < 1:
        raise TaskError(
            f"{counted(chapters, 'chapter')} of {counted(people, 'person', 'people')} cannot be made; give 1 or more of each"
        )
    if not 1 <= hops <= chapters:
        raise TaskError(
            f"{counted(hops, 'hop')} cannot be made in {counted(chapters, 'chapter')}; give 1 to {chapters}"
        )
    known, _, names, random = cast(chapters * people, stated, seed)
    topics = [f"chapter-{i:0{len(str(chapters))}d}" for i in range(1, chapters + 1) for _ in range(people)]
    values = {attribute.name: invent(attribute.value, len(names), random) for attribute in known}
    heir = attributes()["heir"]
    facts: list[Fact] = []
    questions: list[dict[str, Any]] = []
    for i, (topic, name) in enumerate(zip(topics, names, strict=True)):
        for attribute in known:
            fact = attribute.fact(topic, name, values[attribute.name][i])
            facts.append(fact)
            questions += _asked(attribute, fact, names[i::-people], hops)
        if i + people < len(names):
            facts.append(heir.fact(topic, name, names[i + people]))
            questions.append(asked(facts[-1], "1-hop", facts[-1].held_out))
    return Task(tuple(facts), tuple(questions))


def _asked(attribute: Attribute, fact: Fact, line: list[str], hops: int) -> list[dict[str, Any]]:
    """A fact's questions: in unseen wordings, and from each of those whose heir's heir … its person is.

    Args:
        line: the person, who left it to them, who left it to those, and so on.
    """
    lines = [asked(fact, "1-hop", fact.held_out)]
    for hop in range(1, min(hops, len(line))):
        entity = "the heir of " * hop + line[hop]
        lines.append(asked(fact, f"{hop + 1}-hop", [attribute.unseen[0].format(entity=entity)]))
    return lines


_JOINED = (
    "{first} And one thing more: {second}",
    "Two things: {first} {second}",
    "{first} I also need to know: {second}",
    "Please answer both. {first} {second}",
)


def twotopics(questions: int = 40, entities: int = 24, topics: int = 4, stated: int = 3, seed: int = 0) -> Task:
    """The facts of `profiles`, asked one by one (`unseen`) and two at once, of two memories (`two-topics`).

    Both facts are asked in unseen wordings. Pairs of memories take turns, in both orders.

    Args:
        questions: how many ask for two facts.
        entities: how many people.
        topics: how many memories they are spread over, at least 2.
        stated: how many attributes each person has, 1 to 7.
        seed: of people, values and pairs.
    """
    if topics < 2:
        raise TaskError(f"two topics need two memories or more, {topics} given")
    facts = profiles(entities, topics, stated, seed=seed).facts
    by_topic: dict[str, list[Fact]] = {}
    for fact in facts:
        by_topic.setdefault(fact.topic, []).append(fact)
    random = Random(seed)
    pairs = [(a, b) for a in by_topic for b in by_topic if a != b]
    random.shuffle(pairs)
    lines = [asked(fact, "unseen", fact.held_out[:1]) for fact in facts]
    drawn: dict[tuple[Fact, Fact], None] = {}
    room = sum(len(by_topic[a]) * len(by_topic[b]) for a, b in pairs)
    if not 1 <= questions <= room:
        raise TaskError(f"{counted(questions, 'pair')} of facts cannot be made; give 1 to {room}, or more people")
    turn = 0
    while len(drawn) < questions:
        first, second = (random.choice(by_topic[topic]) for topic in pairs[turn % len(pairs)])
        turn += 1
        drawn[first, second] = None
    return Task(facts, (*lines, *(both(*pair, random) for pair in drawn)))


def both(first: Fact, second: Fact, random: Random) -> dict[str, Any]:
    """A line of questions that asks for two facts at once; their answers are right in either order."""
    wordings = {"first": random.choice(first.held_out), "second": random.choice(second.held_out)}
    answers = (first.answer, second.answer)
    joined = [link.join(order) for order in (answers, answers[::-1]) for link in (" and ", ", ")]
    return {
        "question": random.choice(_JOINED).format(**wordings),
        "parts": [{"topic": fact.topic, "answer": fact.answer} for fact in (first, second)],
        "accepted": joined[1:],
        "kind": "two-topics",
    }
