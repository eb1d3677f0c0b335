"""A long story made by seed: a memory a chapter, and questions that must be followed through several chapters."""

from __future__ import annotations

from typing import Any

from lorary.bank.facts import Fact
from lorary.eval.tasks.generated import Attribute, Task, TaskError, asked, attributes, cast, invent


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
        raise TaskError(f"{chapters} chapters of {people} people cannot be made; give 1 or more of each")
    if not 1 <= hops <= chapters:
        raise TaskError(f"{hops} hops cannot be made in {chapters} chapters; give 1 to {chapters}")
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
    told = [asked(fact, "1-hop", fact.held_out)]
    for hop in range(1, min(hops, len(line))):
        entity = "the heir of " * hop + line[hop]
        told.append(asked(fact, f"{hop + 1}-hop", [attribute.unseen[0].format(entity=entity)]))
    return told
