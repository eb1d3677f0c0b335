"""Wordings by rule: other ways to ask an English question, for facts that people worded only once or twice.

A rule moves and drops words, and knows no synonyms: it teaches a memory not to wait for one order of words. What is no
question of a known form, or no English, is asked by its words alone.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from lorary.bank.facts import comparable


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_BE, _DO = _set("is are was were"), _set("does do did")
_MODAL = _set("has have had can could may might must shall should will would")
_ASKING = _set("who whom whose what which where when why how")
_DETERMINERS = _set(
    "the a an our my your their his her its this that these those i you we they he she it there one people"
)
_PREPOSITIONS = _set("in at on by for to from with under of into after before about through")
_NAMING = _set("and or as be been me please name tell many much long often")
_SMALL = _BE | _DO | _ASKING | _DETERMINERS | _PREPOSITIONS | _NAMING
_CALLED = _set("called named nicknamed")
_PERSON = {"who": "the person who", "whom": "the person whom"}
_GAPS = 2
"""Statements with a gap at most: they differ from one another less than questions do."""
_TRIES = 4
_LONGEST_ASKED = 5
"""Words between the word that asks and its verb, at most."""


@dataclass(frozen=True)
class _Parts:
    """A question in parts: "[To] [which town] [does] [the orchestra travel]?".

    Args:
        before: the preposition before what is asked for, or "".
        asked: the words that ask, such as "which town".
        verb: the auxiliary or form of "be" that stands next; "" where another verb does.
        rest: all that follows.
        turned: whether the subject follows the verb, so that a statement puts it before.
    """

    before: str
    asked: str
    verb: str
    rest: str
    turned: bool

    @property
    def stated(self) -> str:
        """The order of a statement without what is asked for: "the orchestra travel"; a subject question's own words."""
        if not self.turned:
            return f"{self.verb} {self.rest}".strip()
        if self.verb in _DO:
            return self.rest
        words = self.rest.split()
        last = next((word for word in ("be", "have", *_CALLED) if word in words[1:]), None)
        if last is not None:
            at = len(words) - 1 - words[::-1].index(last)
            return " ".join([*words[:at], self.verb, *words[at:]])
        return f"{self.rest} {self.verb}" if self.verb in _BE else self.rest

    @property
    def indirect(self) -> str:
        """As it stands after "Tell me": "to which town the orchestra travel"."""
        return " ".join(part for part in (self.before, self.asked, self.stated) if part)

    @property
    def echo(self) -> str:
        """With what is asked for where its answer would stand: "the orchestra travel to which town"."""
        asked = f"{self.before} {self.asked}".strip()
        return f"{self.stated} {asked}" if self.turned else f"{asked} {self.stated}"

    @property
    def thing(self) -> str:
        """What is asked for as a thing: "the keeper of the light", "the firm that made the lens"."""
        first, *more = self.asked.split()
        if self.turned and self.verb in _BE and not more and first in ("who", "what") and not self.before:
            words = self.rest.split()
            return f"the name of {' '.join(words[:-1])}" if words[-1] in _CALLED else self.rest
        if first == "how":
            counted = more[:1] in (["many"], ["much"]) and bool(more[1:])
            return f"the number of {' '.join(more[1:])} that {self.stated}" if counted and not self.before else ""
        if first in _PERSON:
            return f"{_PERSON[first]} {self.stated}"
        if first in ("what", "which") and not self.before:
            if not more:  # the noun stands before its verb: "which firm made the lens"
                noun, _, rest = self.stated.partition(" ")
                return f"the {noun} that {rest}" if first == "which" and rest else ""
            return f"the {' '.join(more)} that {self.stated}" if not self.turned or self.verb in _DO else ""
        return {"where": "the place where ", "when": "the time when "}.get(first, "") + self.stated if not more else ""


def _parts(question: str) -> _Parts | None:
    """The question in parts; None where it begins with no word that asks."""
    words = question.strip().rstrip("?.! ").split()
    if len(words) < 3:
        return None
    before = ""
    if words[0].lower() in _PREPOSITIONS and words[1].lower() in _ASKING:
        before, *words = words[0].lower(), *words[1:]
    if words[0].lower() not in _ASKING:
        return None
    words[0] = words[0].lower()
    place = next((i for i, w in enumerate(words[1:], 1) if w.lower() in _BE | _DO | _MODAL), len(words))
    if place > _LONGEST_ASKED or place == len(words):
        place = 1
    if place == len(words) - 1:
        return None
    verb = words[place] if words[place].lower() in _BE | _DO | _MODAL else ""
    rest = words[place + bool(verb) :]
    named = rest[0].lower() in _DETERMINERS or rest[0][:1].isupper() or rest[0][:1].isdigit() or "'s" in rest[0]
    turned = bool(verb) and (bool(before) or verb in _DO or named or place == 1)
    return _Parts(before, " ".join(words[:place]), verb, " ".join(rest), turned)


def distinct(wordings: Sequence[str]) -> list[str]:
    """The wordings without those that repeat an earlier one but for case, white space or a Unicode form."""
    first: dict[str, str] = {}
    for wording in wordings:
        first.setdefault(comparable(wording), wording)
    return list(first.values())


def reworded(question: str) -> list[str]:
    """Other wordings of a question by rule, those that differ most first; none that it is but for case and marks."""
    made = {_plain(question): question}
    for text in map(_capital, _wordings(question)):
        if len(text.split()) > 1:
            made.setdefault(_plain(text), text)
    return list(made.values())[1:]


def bare(question: str) -> str:
    """The question in lower case and without marks, as people type it."""
    return " ".join(re.sub(r"[?!.,;:]+(?=\s|$)", " ", question.lower()).split())


def gapped(question: str) -> str | None:
    """A statement made of the question, with a gap for its answer; None where the question has no known form."""
    parts = _parts(question)
    if parts is None:
        return None
    first, *more = parts.asked.split()
    counted = first == "how" and more[:1] in (["many"], ["much"])
    gap = " ".join([parts.before, "___", *(more[1:] if counted else ())]).strip()
    if parts.turned:
        return _capital(f"{parts.stated} {gap}.")
    rest = parts.stated.split()
    dropped = 1 if (first == "which" and not more and not parts.verb) or rest[0] in ("many", "much") else 0
    return f"{gap} {' '.join(rest[dropped:])}."


def _wordings(question: str) -> Iterator[str]:
    parts, plain = _parts(question), question.strip().rstrip("?.! ")
    keywords = [word for word in bare(question).split() if word.removesuffix("'s") not in _SMALL] or bare(
        question
    ).split()
    if parts is not None:
        thing = parts.thing
        swapped = _owner_first(thing)
        if thing:
            yield f"Give {thing}." if thing.startswith("the name ") else f"Name {thing}."
        if swapped:
            yield f"{swapped}?"
        yield f"{parts.echo}?"
        yield f"Do you know {parts.indirect}?"
        if thing:
            yield f"{thing.removeprefix('the ')}?"
            person = parts.asked in _PERSON and not thing.startswith("the name ")
            yield f"What is the name of {thing}?" if person else f"What is {thing}?"
        yield f"I would like to know {parts.indirect}."
    yield " ".join(keywords)
    if parts is not None:
        yield f"Please tell me {parts.indirect}."
        if swapped:
            yield f"Tell me {swapped}."
        yield f"{parts.stated}: {parts.before} {parts.asked}?".replace(":  ", ": ")
    yield " ".join(reversed(keywords))
    yield f"Can you help me? {plain}?"


_OF = re.compile(r"^the (?P<thing>[^,]+?) (?:of|at|in|on|to|for) (?:the )?(?P<owner>[^,]+)$")


def _owner_first(thing: str) -> str | None:
    """ "the keeper of the light" → "the light's keeper"; None where nothing owns it."""
    found = _OF.match(thing)
    if (
        not found
        or len(found["owner"].split()) > _LONGEST_ASKED
        or "'" in thing
        or " that " in thing
        or " who" in thing
    ):
        return None
    owner = found["owner"] if found["owner"][:1].isupper() else f"the {found['owner']}"
    return f"{owner}'s {found['thing']}"


def _capital(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:]


def _plain(text: str) -> str:
    return comparable(bare(text))


def thinned(wording: str, share: float, chance: random.Random) -> str:
    """The wording without about `share` of its words (at least one stays), so that no single word carries a fact."""
    words = wording.split()
    return " ".join(word for word in words if chance.random() >= share) or chance.choice(words)


def others(
    questions: Sequence[str], count: int, chance: random.Random, share: float = 0.3, gap: bool = True
) -> list[str]:
    """At most `count` other texts that ask what some wordings of one fact ask: each wording reworded by rule, the wordings in
    turn; a statement made of each, with a gap; and copies of all of these and the wordings that lack about `share` of their
    words, for the last third.

    Args:
        gap: whether statements with a gap are made.
    """
    by_rule = [reworded(question) for question in questions]
    gaps = [made for question in questions if gap and (made := gapped(question))]
    texts = [*gaps[:_GAPS], *(text for turn in zip_longest(*by_rule) for text in turn if text is not None)]
    known, chosen = {_plain(question) for question in questions}, list[str]()
    for text in texts[: count - count // 3]:
        if _plain(text) not in known:
            known.add(_plain(text))
            chosen.append(text)
    source = [*questions, *chosen]
    for place in range(_TRIES * count if source else 0):
        if len(chosen) == count:
            break
        copy = thinned(source[place % len(source)], share, chance)
        if copy not in chosen and copy not in questions:
            chosen.append(copy)
    return chosen
