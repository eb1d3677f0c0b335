"""What can be asked for in a clause: its subject, objects, times, places, numbers, names and reasons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lorary.intake.english import listed
from lorary.intake.generators.asking import Gap
from lorary.intake.generators.clauses import Clause
from lorary.intake.generators.deeds import LONGEST, deeds, means, measures, reasons
from lorary.intake.generators.grammar import entity, phrase, words
from lorary.intake.generators.kinds import PERSON, REASON, Kind, is_person, kind_of

if TYPE_CHECKING:
    from lorary.intake.generators.grammar import Token

_DROPPED = ("time", "place", "span", "often")
"""Kinds whose question word takes the place of the preposition, too: "in 1987" → "when"."""
_INNER = {
    "PERSON": "who",
    "GPE": "which place",
    "LOC": "which place",
    "FAC": "which place",
    "ORG": "what",
    "EVENT": "what",
    "WORK_OF_ART": "what",
    "PRODUCT": "what",
    "LAW": "what",
    "CARDINAL": "how many",
    "MONEY": "how much",
    "PERCENT": "what percentage",
    "DATE": "what date",
}
"""The label of a named entity within a phrase → what asks for it there."""
_KEPT_BEFORE_WHEN = ("since", "until", "till", "by", "from")
_VAGUE = listed("vague")
"""Prepositions before which nobody asks for a thing."""
_MADE_OF = ("make", "consist", "build", "compose")
_MEANS = ("mean", "indicate", "signal", "signify")
"""Verbs of what a sign says, which a clause behind them answers."""
_PRICED = ("cost", "pay", "charge", "earn", "spend")
_WEAK_VERBS = listed("weak")


def gaps_of(clause: Clause) -> Iterator[Gap]:
    """What a question about the clause may ask for, in order."""
    if (gap := _subject_gap(clause)) is not None:
        yield gap
    found = [gap for part in clause.parts for gap in _part_gaps(part, clause)]
    if clause.subject.lower_ == "you" and len(clause.parts) < 2:
        found = [gap for gap in found if gap.kind.particular]  # "what should you turn?" is anybody's guess
    yield from found
    yield from _nested(clause, {token for gap in found for token in (t.i for t in gap.answer)})


def _nested(clause: Clause, asked: set[int]) -> Iterator[Gap]:
    """Names, numbers and dates within phrases, which only a question in the order of a statement can ask for."""
    of_subject = {token.i for token in phrase(clause.subject, without=clause.verb)}
    heads = [clause.subject, *clause.parts]
    told = {
        t.i
        for head in heads
        if head.dep_ not in ("ccomp", "advcl", "csubj")
        for t in phrase(head, without=clause.verb if head == clause.subject else None)
    }
    for span in clause.verb.doc.ents:
        tokens = frozenset(token.i for token in span if token.tag_ != "POS")
        if span.text.lower() in ("one", "1"):
            continue
        if not tokens <= told or tokens & asked or (clause.subject.i in tokens and tokens & of_subject):
            continue
        ask = _INNER.get(span.label_)
        if span.label_ == "DATE" and not any(token.is_digit for token in span):
            continue
        if span.root.dep_ == "appos" or (
            span.start and span.doc[span.start - 1].tag_ == "DT" and span.label_ == "PERSON"
        ):
            continue
        if span.root.dep_ == "conj" or any(child.dep_ == "conj" for child in span.root.children):
            continue  # one of a list
        determined = span.root.dep_ in ("compound", "amod", "nmod", "poss") and span.label_ not in (
            "CARDINAL",
            "PERSON",
        )
        if ask is not None and not determined:
            yield Gap(
                tokens,
                tuple(token for token in span if token.tag_ != "POS"),
                Kind(span.label_.lower(), (ask,)),
                nested=True,
            )


def _subject_gap(clause: Clause) -> Gap | None:
    subject = clause.subject
    if (
        subject.dep_ == "expl"
        or subject.pos_ == "PRON"
        or (clause.verb.dep_ in ("relcl", "acl") and subject.pos_ != "PROPN")
    ):
        return None
    if clause.verb.lemma_ in _WEAK_VERBS or clause.negated:
        return None
    attribute = next((part for part in clause.parts if part.dep_ in ("attr", "acomp")), None)
    if clause.verb.lemma_ == "be" and (attribute is None or not _definite(attribute)):
        return None
    if not clause.parts or _is_meant_before(subject):
        return None
    kind = kind_of(subject)
    answer = _answer(subject)
    if kind is None or answer is None or kind.name not in ("person", "thing", "count", "place"):
        return None
    tokens = frozenset(token.i for token in phrase(subject))
    if kind.name == "count":
        return Gap(tokens, _number(subject), kind, is_subject=True)
    return Gap(tokens, answer, kind, is_subject=True)


def _is_meant_before(noun: Token) -> bool:
    """Whether a noun alone, such as "the venture", stands for what was told of before: as an answer it says nothing."""
    pointing = any(
        child.lower_ in ("the", "this", "that", "these", "those") for child in noun.children if child.dep_ == "det"
    )
    return noun.pos_ == "NOUN" and pointing and len(phrase(noun)) == 2


def _definite(noun: Token) -> bool:
    determined = any(child.lower_ in ("the", "our", "your") or child.dep_ == "poss" for child in noun.children)
    return noun.pos_ == "PROPN" or determined


def _part_gaps(part: Token, clause: Clause) -> Iterator[Gap]:
    """The gaps in one part, those within "to sell the mill to Ana" included."""
    if part.dep_ in ("prep", "agent"):
        yield from _behind(part)
    elif part.dep_ in ("dobj", "attr", "dative", "oprd") and part.pos_ != "ADP":
        yield from _noun_gaps(part, "")
    elif part.dep_ == "dative":
        yield from _behind(part)
    elif part.dep_ == "npadvmod":
        kind = kind_of(part)
        if kind is not None and kind.name == "count":
            yield from _noun_gaps(part, "")
        elif kind is not None and kind.name in ("time", "often", "span", "age"):
            yield Gap(frozenset(t.i for t in phrase(part)), tuple(phrase(part)), kind)
    elif part.dep_ == "advmod" and part.lower_ in ("once", "twice", "daily", "weekly", "monthly", "yearly"):
        yield Gap(frozenset(t.i for t in part.subtree), tuple(part.subtree), Kind("often", ("how often",)))
    elif part.dep_ == "acomp":
        yield from measures(part)
    elif part.dep_ == "xcomp":
        yield from deeds(part)
        for inner in part.children:
            if inner.dep_ in ("dobj", "prep", "agent", "npadvmod", "attr", "dative"):
                yield from _part_gaps(inner, clause)
    elif part.dep_ == "advcl":
        yield from reasons(part)
    elif part.dep_ == "ccomp" and clause.verb.lemma_ in _MEANS:
        told = [token for token in part.subtree if not (token.dep_ == "mark" and token.head == part)]
        if len(told) <= LONGEST:
            yield Gap(frozenset(token.i for token in part.subtree), tuple(told), Kind("thing", ("what",), False))


def _behind(preposition: Token) -> Iterator[Gap]:
    """What a prepositional phrase can be asked for."""
    noun = next((child for child in preposition.children if child.dep_ in ("pobj", "pcomp")), None)
    if noun is None or noun.pos_ == "PRON":
        return
    if noun.tag_ == "VBG" and noun.dep_ == "pcomp":
        yield from means(preposition, noun)
        return
    if noun.pos_ in ("VERB", "AUX"):
        return
    if preposition.lower_ == "because" or (preposition.lower_ == "due" and noun.pos_ == "ADP"):
        yield Gap(frozenset(t.i for t in preposition.subtree), tuple(phrase(noun)), REASON)
        return
    for gap in _noun_gaps(noun, preposition.lower_):
        made_of = preposition.lower_ == "of" and preposition.head.lemma_ in _MADE_OF
        if gap.kind.name == "thing" and not gap.kind.particular and preposition.lower_ in _VAGUE and not made_of:
            continue
        if gap.kind.name == "time" or (gap.kind.name in _DROPPED and preposition.lower_ not in ("from", "through")):
            before = preposition.lower_ if gap.kind.name == "time" and preposition.lower_ in _KEPT_BEFORE_WHEN else ""
            asks = Kind(gap.kind.name, gap.kind.asks[:1]) if before else gap.kind
            yield Gap(gap.tokens | {preposition.i}, gap.answer, asks, before=before)
        elif gap.kind.name in ("count", "money", "percent", "number"):
            yield Gap(gap.tokens | {preposition.i}, gap.answer, gap.kind, gap.extra, before=preposition.lower_)
        else:
            yield gap


def _noun_gaps(noun: Token, preposition: str) -> Iterator[Gap]:
    kind = kind_of(noun, preposition)
    if kind is None:
        return
    told = phrase(noun)
    if kind.name == "count" and noun.head.lemma_ in _PRICED:
        whole = [token for token in told if token.i <= noun.i]
        yield Gap(frozenset(t.i for t in whole), tuple(whole), Kind("money", ("how much", *kind.asks)))
        return
    if kind.name == "count":
        behind = [token for token in told if token.i > noun.i]
        of = behind if behind and behind[0].lower_ == "of" else []  # "how many grams of beans"
        asked = frozenset(t.i for t in told if t.i <= noun.i or t in of)
        yield Gap(asked, _number(noun), kind, extra=words(of))
        return
    if kind.name == "number":
        rest = [token for token in told if token.i > noun.i]
        yield Gap(frozenset(token.i for token in told), _number(noun), kind, extra=words(rest))
        return
    appended = _apposed(noun)
    if kind.name != "person" and appended is not None and is_person(appended):
        kind = PERSON
    if kind.name == "code":
        yield Gap(frozenset(token.i for token in told), (noun,), kind)
        return
    answer = _answer(noun)
    if answer is not None:
        named = {token.i for token in appended.subtree} if appended is not None else set()
        yield Gap(frozenset({*(token.i for token in told), *named}), answer, kind)


def _apposed(noun: Token) -> Token | None:
    """The name right behind a noun, without a comma: "the surgeon Imrie Colquand"."""
    named = next((child for child in noun.children if child.dep_ == "appos" and child.pos_ == "PROPN"), None)
    return named if named is not None and named.left_edge.i == noun.i + 1 else None


def _number(noun: Token) -> tuple[Token, ...]:
    """The number before a noun, or a number itself, with "about" and "more than"."""
    number = next((child for child in noun.children if child.dep_ == "nummod"), noun)
    told = [
        token
        for token in number.subtree
        if token.dep_ in ("quantmod", "advmod", "compound", "punct", "amod", "npadvmod") or token is number
    ]
    return tuple(token for token in told if token.i <= number.i)


def _answer(noun: Token) -> tuple[Token, ...] | None:
    """The words of a short answer: a name alone, or the phrase without its article; None for a long one."""
    noun = _apposed(noun) or noun
    if any(child.dep_ == "conj" for child in noun.children):
        told = phrase(noun)
    else:
        span = entity(noun)
        inner = any(child.dep_ == "prep" for child in noun.children)
        if span is not None and span.root == noun and noun.pos_ == "PROPN" and not inner:
            told = [token for token in span if token.tag_ != "POS"]
        else:
            told = phrase(noun)
    while told and (told[0].tag_ == "DT" and told[0].lower_ in ("a", "an", "the", "this", "these", "that", "those")):
        told = told[1:]
    return tuple(told) if 0 < len(told) <= LONGEST else None
