"""Two topics in one question, made by seed: it asks for a fact of one memory and a fact of another."""

from __future__ import annotations

from random import Random
from typing import Any

from lorary.bank.facts import Fact
from lorary.eval.tasks.generated import Task, TaskError, asked, profiles

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
        raise TaskError(f"{questions} pairs of facts are not possible; give 1 to {room}, or more people")
    turn = 0
    while len(drawn) < questions:
        one, other = (random.choice(by_topic[topic]) for topic in pairs[turn % len(pairs)])
        turn += 1
        drawn[one, other] = None
    return Task(facts, (*lines, *(both(*pair, random) for pair in drawn)))


def both(one: Fact, other: Fact, random: Random) -> dict[str, Any]:
    """A line of questions that asks for two facts at once; their answers are right in either order."""
    first, second = random.choice(one.held_out), random.choice(other.held_out)
    answers = (one.answer, other.answer)
    joined = [link.join(order) for order in (answers, answers[::-1]) for link in (" and ", ", ")]
    return {
        "question": random.choice(_JOINED).format(first=first, second=second),
        "parts": [{"topic": fact.topic, "answer": fact.answer} for fact in (one, other)],
        "accepted": joined[1:],
        "kind": "two-topics",
    }
