"""Generated facts: sets of topics to measure routing on, and facts of invented people, as many as are wanted.

Everything follows from a seed. The wordings of a relation are in `relations.jsonl`: its last two are held out for every
seed, two of the others (by the seed) are for validation, the rest is trained.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from lorary.bank.bank import MemoryBank
from lorary.bank.documents import Passage
from lorary.bank.facts import Fact, FactError, group_by_topic, read_lines
from lorary.bank.files import write_aside
from lorary.bank.memory import Memory
from lorary.research.settings import INVENTED_WORDINGS, SET_NAMES
from lorary.resume import ResumeError
from lorary.routing.encoder import Encoder

_BOOK = (
    "What is {who}'s phone number?",
    "How do I reach {who} by telephone?",
    "Which number must I dial to speak to {who}?",
    "Under which number does {who} pick up?",
    "I want to ring {who}: what do I key in?",
)


@dataclass(frozen=True)
class Relation:
    """What can be asked of an entity: wordings with `{who}` for its name."""

    theme: str
    people: bool
    relation: str
    wordings: tuple[str, ...]


def relations() -> list[Relation]:
    """All relations of `relations.jsonl`."""
    return [Relation(**{**line, "wordings": tuple(line["wordings"])}) for line in _lines("relations.jsonl")]


def _lines(name: str) -> list[dict[str, Any]]:
    return [line for _, line in read_lines(Path(__file__).parent / name)]


def _names(random: Random, count: int, *, people: bool) -> list[str]:
    """Distinct invented names: a word, or for people a first and a last name."""
    words = {line["part"]: line["words"] for line in _lines("names.jsonl")}
    last = [head + tail for head in words["heads"] for tail in words["tails"]]
    every = [f"{first} {name}" for first in words["first"] for name in last] if people else last
    return random.sample(every, count)


class _Wordings:
    """Turns relations into facts; which wordings are kept for validation is drawn once a relation.

    Args:
        fold: leaves out, in place of the wordings held out for good, as many others; one wording less is for validation.
    """

    def __init__(self, random: Random, fold: int | None = None) -> None:
        self.random, self.fold, self._kept = random, fold, dict[tuple[str, ...], list[str]]()

    def fact(self, topic: str, who: str, wordings: tuple[str, ...], held_out: int = 2, validation: int = 2) -> Fact:
        """A fact about `who`, with an answer that is a number of no meaning."""
        if self.fold is not None:
            wordings, validation = _shuffled(wordings[: len(wordings) - held_out], self.fold), 1
        open_to_all = wordings[: len(wordings) - held_out]
        if wordings not in self._kept:
            self._kept[wordings] = self.random.sample(open_to_all, validation)
        question = {wording: wording.replace("{who}", who) for wording in wordings}
        trained = [question[w] for w in open_to_all if w not in self._kept[wordings]]
        kept = tuple(question[w] for w in self._kept[wordings])
        answer = str(self.random.randrange(1000, 9999))
        last = tuple(question[w] for w in wordings[len(wordings) - held_out :])
        return Fact(topic, trained[0], answer, (*trained[1:], *kept), last, validation=kept)


def _shuffled(wordings: tuple[str, ...], fold: int) -> tuple[str, ...]:
    return tuple(Random(f"{fold} {wordings[0]}").sample(wordings, len(wordings)))


def separable(seed: int, fold: int | None = None) -> list[Fact]:
    """16 topics of 48 facts, each with relations and entities of its own."""
    random = Random(seed)
    make, facts = _Wordings(random, fold), list[Fact]()
    by_theme: dict[str, list[Relation]] = {}
    for relation in relations():
        by_theme.setdefault(relation.theme, []).append(relation)
    names = {kind: iter(_names(random, 256, people=kind)) for kind in (True, False)}
    for theme, own in by_theme.items():
        for who in [next(names[own[0].people]) for _ in range(48 // len(own))]:
            facts += [make.fact(theme, who, relation.wordings) for relation in own]
    return facts


def overlapping(seed: int, fold: int | None = None) -> list[Fact]:
    """16 topics of 48 facts, and one more to join them: 8 themes of the same 12 people, 9 households of 12 others.

    Among themes what is asked decides, and it is asked in other words; among households, which all have facts of every
    theme, the name decides. The ninth household is `JOINS`.
    """
    random = Random(seed)
    make, facts = _Wordings(random, fold), list[Fact]()
    shared = [relation for relation in relations() if relation.people]
    names = _names(random, 12 * 10, people=True)
    for relation in shared:
        facts += [make.fact(f"theme-{relation.theme}", who, relation.wordings) for who in names[:12]]
    for number in range(1, 10):
        pairs = [(who, relation) for who in names[12 * number : 12 * number + 12] for relation in shared]
        drawn = sorted(random.sample(range(len(pairs)), 48))
        facts += [make.fact(f"household-{number}", pairs[i][0], pairs[i][1].wordings) for i in drawn]
    return facts


def phone_book(seed: int, fold: int | None = None) -> list[Fact]:
    """6,000 names in 16 shards; which shard a name is in follows no rule. Every sixth has a validation wording."""
    random = Random(seed)
    make = _Wordings(random, fold)
    names = _names(random, 6000, people=True)
    facts = [make.fact(f"shard-{i % 16:02}", who, _BOOK, held_out=1, validation=1) for i, who in enumerate(names)]
    return [
        fact if i % 6 == 0 else replace(fact, questions=fact.trained[1:], validation=()) for i, fact in enumerate(facts)
    ]


JOINS = "household-9"
SETS: dict[str, Callable[..., list[Fact]]] = dict(zip(SET_NAMES, (separable, overlapping, phone_book), strict=True))


def drawn(name: str, seed: int, facts_a_topic: int | None = None) -> list[Fact]:
    """The facts of a set, without the topic that joins later; of each topic all, or so many, drawn by the seed.

    Raises:
        FactError: more facts of a topic than it has, or none.
    """
    topics = {topic: facts for topic, facts in group_by_topic(SETS[name](seed)).items() if topic != JOINS}
    most = min(map(len, topics.values()))
    count = most if facts_a_topic is None else facts_a_topic
    if not 1 <= count <= most:
        raise FactError(f"{count} facts a topic cannot be drawn from the set {name!r}; give 1 to {most}")
    random = Random(seed)
    numbers = {topic: sorted(random.sample(range(len(facts)), count)) for topic, facts in topics.items()}
    return [topics[topic][number] for topic, chosen in numbers.items() for number in chosen]


def bare_bank(
    facts: Sequence[Fact], encoder: Encoder, documents: Mapping[str, tuple[Passage, ...]] | None = None
) -> MemoryBank:
    """A bank of memories without adapters, a topic each, to route among.

    Args:
        documents: topic → the passages that its memory has read.
    """
    bank = MemoryBank("none", "", encoder.name, {}, "")
    for topic, own in group_by_topic(facts).items():
        passages = (documents or {}).get(topic, ())
        bank.memories[topic] = Memory(topic, {}, {}, own, documents=passages).with_keys(encoder)
    return bank


def write_facts(facts: Sequence[Fact], file: Path) -> None:
    """Writes the facts as JSONL. A file that holds the same stays as it is.

    Raises:
        ResumeError: the file holds something else.
    """
    content = "".join(json.dumps(fact.to_json(), ensure_ascii=False) + "\n" for fact in facts).encode()
    if file.exists() and (not file.is_file() or file.read_bytes() != content):
        raise ResumeError(f"{file} holds something else, and it would be overwritten; give another file as --out")
    write_aside(file, content)


# What is asked of a person, under two names, and what its values look like.
_KEYS = (
    ("phone number", "telephone number", "number"),
    ("birthplace", "home town", "word"),
    ("employer", "workplace", "word"),
    ("doctor", "physician", "person"),
    ("locker code", "locker combination", "code"),
    ("best friend", "closest friend", "person"),
    ("boat", "sailing boat", "word"),
    ("customer number", "client number", "number"),
)
_ASKED = (
    "What is the {key} of {who}?",
    "Tell me {who}'s {other}.",
    "Which {other} belongs to {who}?",
    "For {who}, the {key} is",
    "Give the {other} listed for {who}.",
    "{who}: {key}?",
    "I am looking for the {key} of {who}.",
    "Do you know {who}'s {other}?",
)
_ASKED_UNSEEN = (
    "Beside the name {who}, which {key} is on file?",
    "Could somebody say what {who} has as {other}?",
    "They ask about {who} and the {other}; what do we reply?",
    "Please look up {who}'s {key}.",
)
_FACTS_A_PERSON = 4
assert len(_ASKED) == INVENTED_WORDINGS


def invented_facts(count: int, seed: int, wordings: int = INVENTED_WORDINGS) -> list[Fact]:
    """`count` facts of invented people, four a person; a longer list of one seed begins with the shorter one.

    Each has one validation wording, drawn from those that no fact trains on.
    """
    random, facts, drawn = Random(seed), list[Fact](), set[str]()
    while len(facts) < count:
        who = _new_value("person", drawn, random)
        for key, other, kind in random.sample(_KEYS, _FACTS_A_PERSON):
            first, *more = (w.format(who=who, key=key, other=other) for w in _ASKED[:wordings])
            unseen = random.choice(_ASKED_UNSEEN).format(who=who, key=key, other=other)
            facts.append(
                Fact("invented", first, _new_value(kind, drawn, random), (*more, unseen), validation=(unseen,))
            )
    return facts[:count]


def _new_value(kind: str, drawn: set[str], random: Random) -> str:
    """A value that was not drawn before."""
    while (value := _value(kind, random)) in drawn:
        pass
    drawn.add(value)
    return value


def _value(kind: str, random: Random) -> str:
    """An invented word, name of a person, number of seven digits or code of four."""
    if digits := {"number": 7, "code": 4}.get(kind):
        return f"{random.randrange(10**digits):0{digits}d}"
    return " ".join(_word(random) for _ in range(2 if kind == "person" else 1))


def _word(random: Random) -> str:
    """An invented word of two or three syllables."""
    syllables = [random.choice("bdfghklmnprstvwz") + random.choice("aeiou") for _ in range(random.choice((2, 2, 3)))]
    return "".join([*syllables, random.choice("lmnrsx")]).capitalize()
