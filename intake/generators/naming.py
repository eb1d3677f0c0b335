"""Facts that a noun phrase states by itself: appositions and abbreviations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import regex

from lorary.intake.generators.antecedents import unresolved
from lorary.intake.generators.grammar import phrase, words
from lorary.intake.generators.kinds import is_person, kind_of

if TYPE_CHECKING:
    from lorary.intake.generators.grammar import Span, Token


@dataclass(frozen=True)
class Named:
    """A fact: its question wordings, its answer and its statement."""

    wordings: tuple[str, ...]
    answer: str
    statement: str


def named_in(sentence: Span, meant: dict[int, str]) -> Iterator[Named]:
    """ "Petra Kvistad, the concertmaster of the orchestra, ..." says who is concertmaster, and what Petra Kvistad is."""
    for token in sentence:
        if token.dep_ == "appos" and token.head.pos_ in ("NOUN", "PROPN") and token.pos_ in ("NOUN", "PROPN"):
            yield from _apposition(token, meant)
        if token.dep_ == "prep" and token.head.pos_ in ("NOUN", "PROPN"):
            yield from _when_and_where(token, meant)
    yield from _abbreviations(sentence.text)


def _apposition(token: Token, meant: dict[int, str]) -> Iterator[Named]:
    name, role = (token.head, token) if token.head.pos_ == "PROPN" else (token, token.head)
    if name.pos_ != "PROPN" or role.pos_ != "NOUN":
        return
    named, called = phrase(name, without=role), phrase(role, without=name)
    if not named or not called:
        return
    said, told = words(named, meant), words(called, meant)
    told = told[0].lower() + told[1:] if called[0].is_sent_start and called[0].pos_ == "DET" else told
    article, _, bare = told.partition(" ")
    if article.lower() not in ("a", "an", "the"):
        article, bare = "", told
    if len(told.split()) > 12 or not bare:
        return
    ask = "who" if is_person(name) or is_person(role) else "what"
    statement = f"{said} is {told}."
    yield Named(
        (
            f"{ask.capitalize()} is {said}?",
            f"Can you tell me {ask} {said} is?",
            f"What is {said}?" if ask == "what" else f"What does one know {said} as?",
        ),
        bare,
        statement,
    )
    specific = any(token.dep_ in ("prep", "poss") for token in called) or len(bare.split()) > 2
    if article in ("the", "") and specific:
        sort = "person" if ask == "who" else "thing"
        yield Named(
            (
                f"{ask.capitalize()} is {told}?",
                f"What is {told} called?",
                f"Can you tell me {ask} {told} is?",
                f"Name {told}.",
                f"Which {sort} is {told}?",
            ),
            said,
            statement,
        )


def _when_and_where(preposition: Token, meant: dict[int, str]) -> Iterator[Named]:
    """ "the election of 2027" says when it was, "the museum in Lund" where it is."""
    noun, name = preposition.head, next((child for child in preposition.children if child.dep_ == "pobj"), None)
    first = noun.left_edge
    if name is None or not (
        noun.pos_ == "PROPN" or first.lower_ in ("the", "this", "that", "our") or first.tag_ == "POS"
    ):
        return
    thing = [token for token in phrase(noun, without=preposition) if token.i < preposition.i]
    kind = kind_of(name, preposition.lower_)
    if not thing or kind is None or unresolved(thing, meant):
        return
    told = words(thing, {token.i: "the" for token in thing if token.lower_ == "the"} | meant)
    place = words(list(phrase(name)), meant)
    if kind.name == "time" and kind.asks[1:] and preposition.lower_ in ("of", "in", "on", "from"):
        on = "on" if kind.asks[1].startswith("on") else "in"
        asks = [f"{ask} was {told}?" for ask in kind.asks]
        asks.append(f"can you tell me when {told} was?")
        yield Named(
            tuple(ask[0].upper() + ask[1:] for ask in asks), place, f"{told[0].upper()}{told[1:]} was {on} {place}."
        )
    if kind.name == "place" and kind.particular:
        asks = [
            f"Where is {told}?",
            f"In which place is {told}?",
            f"Can you tell me where {told} is?",
            f"{told} is where?",
        ]
        named = words([token for token in phrase(name) if token.lower_ != "the"], meant)
        statement = f"{told} is {preposition.lower_} {place}."
        yield Named(tuple(ask[0].upper() + ask[1:] for ask in asks), named, statement[0].upper() + statement[1:])


_ABBREVIATION = regex.compile(
    r"((?:\p{Lu}[\p{L}'’-]*)(?:\s+(?:of|for|the|and|\p{Lu}[\p{L}'’-]*)){1,7})\s+\((\p{Lu}[\p{Lu}\d]{1,7})\)"
)


def _abbreviations(text: str) -> Iterator[Named]:
    """ "World Health Organization (WHO)"."""
    for match in _ABBREVIATION.finditer(text):
        initials = [word[0] for word in match[1].split() if word[0].isupper()]
        letters = [*match[2]]
        if letters != initials[-len(letters) :]:
            continue
        parts = match[1].split()
        while parts and [w[0] for w in parts if w[0].isupper()] != letters:
            parts = parts[1:]
        if parts:
            full = " ".join(parts)
            yield Named(
                (
                    f"What does {match[2]} stand for?",
                    f"What is {match[2]} short for?",
                    f"What is the full name of {match[2]}?",
                    f"What does the abbreviation {match[2]} mean?",
                ),
                full,
                f"{match[2]} stands for {full}.",
            )
