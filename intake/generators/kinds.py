"""What kind of answer a noun phrase is: which question word asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import regex

from lorary.intake.english import listed
from lorary.intake.generators.grammar import entity

if TYPE_CHECKING:
    from lorary.intake.generators.grammar import Token

_PEOPLE, _PLACES, _SPEAKS, _MOVES = (listed(name) for name in ("people", "places", "speaks", "moves"))
_NO_PERSON = regex.compile(
    r"\b(?:Inc|Ltd|LLC|Corp|Corporation|Company|Co|University|Institute|Council|Committee|Commission|Department|Agency|"
    r"Ministry|Bank|Group|Society|Association|Club|Museum|School|College|Hospital|Clinic|Street|Road|Avenue|Square|River|"
    r"Lake|Bay|Island|Mount|Castle|Church|Park|Bridge|Times|Journal|News|Post|Award|Prize|Act|Treaty|War|Festival)\b"
)
_STANDS = (
    *("in", "at", "on", "near", "beside", "behind", "under", "outside", "around", "inside", "within", "above", "below"),
    *("opposite", "by"),
)
"""Prepositions before a place that tell where something is."""
_LASTS = ("take", "last", "spend", "need", "require", "wait")
_UNITS = (
    "metre|meter|kilometre|kilometer|mile|foot|feet|inch|yard|kilogram|gram|ton|tonne|litre|liter|degree|hectare|acre"
)
_YEAR = regex.compile(r"(?:the year )?(?:1\d|20)\d\d")
_DAY = regex.compile(
    r"\b(?:January|February|March|April|May|June|July|August|September|October|November|December)\b.*\d"
)
_WEEKDAY = regex.compile(r"\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b")
_OFTEN = regex.compile(r"\b(?:every|each|daily|weekly|monthly|yearly|annually|once a|twice a)\b", regex.I)
_DEICTIC = regex.compile(
    r"\b(?:today|tonight|tomorrow|yesterday|now|this|last|next|ago|recent|later|same|earlier|previous)\b", regex.I
)
_LASTING = regex.compile(r"\b(?:second|minute|hour|day|week|month|year|decade)s?\b")


@dataclass(frozen=True)
class Kind:
    """What asks for an answer.

    Args:
        name: "person", "thing", "place", "time", "span", "often", "count", "money", "age" or "reason".
        asks: question words, the plainest first: "when", "in which year".
        particular: whether it is a name, a number or a date: what a question is most often for.
    """

    name: str
    asks: tuple[str, ...]
    particular: bool = True


PERSON = Kind("person", ("who",))
THING = Kind("thing", ("what",))
REASON = Kind("reason", ("why", "for what reason"))


def kind_of(head: Token, preposition: str = "") -> Kind | None:
    """The kind of the noun phrase with this head; None where nothing should ask for it.

    Args:
        preposition: what stands before it.
    """
    span = entity(head)
    label, text = (span.label_, span.text) if span is not None else ("", "")
    if head.pos_ == "PRON" or head.lower_ in ("way", "one", "lot", "thing", "part", "kind", "case", "fact", "addition"):
        return None
    if head.dep_ == "npadvmod" and any(c.lower_ in ("every", "each", "once", "twice") for c in head.children):
        return Kind("often", ("how often",))
    if label in ("DATE", "TIME") or _time_word(head):
        lasts = head.dep_ in ("dobj", "npadvmod") and head.head.lemma_ in _LASTS
        return _time(text or head.text, preposition, label == "TIME", lasts)
    if label == "MONEY":
        return Kind("money", ("how much", "how much money"))
    if label == "PERCENT":
        return Kind("percent", ("what percentage", "how much"))
    if head.pos_ == "NUM" and " " in head.text:
        return Kind("number", ("which number",))
    number = next((child for child in head.children if child.dep_ == "nummod"), None)
    if number is not None and number.lower_ in ("one", "1"):
        return None
    if number is not None and head.pos_ == "NOUN":
        return Kind("count", (f"how many {_counted(head)}",))
    if label in ("CARDINAL", "QUANTITY", "ORDINAL") and head.pos_ == "NUM":
        return Kind("number", ("what number",) if preposition else ("how many", "what number"))
    if (called := _called(head)) is not None:
        return Kind("code", (f"which {called.lower_}",))
    if _goes(head, preposition) and (label or head.pos_ == "PROPN"):
        return Kind("place", ("where",))
    if head.dep_ == "oprd":
        return THING  # "called Ormen" answers "what is it called"
    agent = head.dep_ == "pobj" and head.head.dep_ == "agent"
    if is_person(head) or (agent and head.pos_ == "PROPN" and label != "PRODUCT"):
        return Kind("person", ("who",), particular=head.pos_ == "PROPN")
    place = label in ("GPE", "LOC", "FAC") or head.lemma_.lower() in _PLACES
    if place and not agent and preposition in _STANDS:
        which = "in which place" if preposition == "in" else "at which place"
        return Kind("place", ("where", which), head.pos_ == "PROPN")
    if head.pos_ not in ("NOUN", "PROPN", "NUM", "X", "SYM"):
        return None
    return Kind("thing", ("what",), particular=head.pos_ != "NOUN" or label != "")


def _called(code: Token) -> Token | None:
    """What a code with a digit is, where the noun stands right before it: "the number BX-44"."""
    before = code.nbor(-1) if code.i > code.sent.start else None
    noun = before is not None and before.head == code and before.pos_ == "NOUN" and before.text.islower()
    return before if noun and any(letter.isdigit() for letter in code.text) else None


def _goes(head: Token, preposition: str) -> bool:
    """Whether somebody goes there or comes from there."""
    verb = next((above for above in head.ancestors if above.pos_ == "VERB"), None)
    return preposition in ("to", "from", "into", "through", "towards") and verb is not None and verb.lemma_ in _MOVES


def is_person(head: Token) -> bool:
    span = entity(head)
    if head.pos_ == "PROPN" and span is None:
        named = [token for token in head.lefts if token.dep_ == "compound"]
        whole = " ".join(token.text for token in (*named, head))
        titled = all(token.pos_ == "PROPN" and token.text.istitle() for token in (*named, head))
        return 1 <= len(named) <= 2 and titled and not _NO_PERSON.search(whole)
    if head.dep_ == "nsubj" and head.pos_ == "NOUN" and head.head.lemma_ in _SPEAKS and span is None:
        return True
    if span is not None:
        full_name = (
            span.label_ == "ORG" and 2 <= len(span) <= 3 and all(t.pos_ == "PROPN" and t.text.istitle() for t in span)
        )
        return (span.label_ == "PERSON" or full_name) and not _NO_PERSON.search(span.text)
    return head.pos_ == "NOUN" and head.lemma_.lower() in _PEOPLE


def _time_word(head: Token) -> bool:
    return head.pos_ == "PROPN" and bool(_WEEKDAY.fullmatch(head.text))


def _time(text: str, preposition: str, clock: bool, lasts: bool) -> Kind | None:
    if _DEICTIC.search(text):
        return None
    if _OFTEN.search(text):
        return Kind("often", ("how often",))
    if regex.search(r"\byears? old\b|\baged?\b", text):
        return Kind("age", ("how old",))
    if (
        _LASTING.search(text)
        and preposition in ("for", "over", "within", "after", "")
        and regex.search(r"\d|\b(?:a|two|three|four|five|six|seven|eight|nine|ten|several|many|few)\b", text)
    ):
        if preposition:
            return Kind("span", ("how long",)) if preposition in ("for", "over") else Kind("time", ("when",))
        return Kind("span", ("how long",)) if lasts else None
    if _YEAR.fullmatch(text):
        return Kind("time", ("when", "in which year", "in what year"))
    if _DAY.search(text):
        return Kind("time", ("when", "on what date", "on which day"))
    if _WEEKDAY.search(text):
        return Kind("time", ("when", "on which day"))
    if clock:
        return Kind("time", ("when", "at what time"))
    return Kind("time", ("when",))


def _counted(head: Token) -> str:
    """What is counted: "34 wooden houses" → "wooden houses"."""
    kept = [
        c
        for c in head.children
        if c.dep_ in ("amod", "compound") and c.i < head.i and c.pos_ != "NUM" and c.tag_ != "CD"
    ]
    plural = (
        head.text if head.tag_ in ("NNS", "NNPS") or regex.fullmatch(_UNITS, head.lower_) is None else head.text + "s"
    )
    return " ".join([*(token.text for token in kept), plural])
