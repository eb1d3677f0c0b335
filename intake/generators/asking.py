"""A clause and a part of it → the wordings of a question that the part answers, and the statement that tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorary.intake.generators.clauses import Clause, is_plural
from lorary.intake.generators.grammar import inflected, phrase, words
from lorary.intake.generators.kinds import Kind

if TYPE_CHECKING:
    from lorary.intake.generators.grammar import Token

_ONE = {"are": "is", "were": "was", "have": "has", "do": "does"}


@dataclass(frozen=True)
class Gap:
    """What a question asks for.

    Args:
        tokens: the words that a question leaves out: the answer and what stands with it.
        answer: the words of the answer.
        kind: what asks for it.
        extra: words that follow the question word: "of the houses" behind "how many".
        before: a preposition that goes before the question word.
        is_subject: whether it is the whole subject.
        after: what stays where the gap was: "to do".
        nested: whether it lies within a phrase, so that the question word must stay in its place.
    """

    tokens: frozenset[int]
    answer: tuple[Token, ...]
    kind: Kind
    extra: str = ""
    before: str = ""
    is_subject: bool = False
    after: str = ""
    nested: bool = False

    def asks(self) -> tuple[str, ...]:
        return tuple(" ".join(part for part in (self.before, ask, self.extra) if part) for ask in self.kind.asks)


@dataclass(frozen=True)
class Draft:
    """A clause in pieces of text, ready to be put in order.

    Args:
        clause: it.
        meant: what to say for some tokens, by place.
        optional: heads of the parts that a short question leaves out.
    """

    clause: Clause
    meant: Mapping[int, str]
    optional: frozenset[int] = field(default=frozenset())

    def subject(self, gap: Gap | None = None, filled: str = "") -> str:
        told = self.filled(phrase(self.clause.subject, without=self.clause.verb), gap, filled)
        hangs_on_it = self.clause.verb.dep_ in ("relcl", "acl")
        first, _, rest = told.partition(" ")
        return f"the {rest}" if hangs_on_it and first.lower() in ("a", "an") and rest else told

    def say(self, tokens: Sequence[Token]) -> str:
        changed = dict(self.meant)
        for token in tokens:
            if token.i not in changed and (
                token.pos_ == "DET" or (token.i == token.sent.start and token.pos_ != "PROPN")
            ):
                shouted = len(token.text) > 1 and token.text.isupper()
                changed[token.i] = token.text if shouted else token.text[0].lower() + token.text[1:]
        return words(tokens, changed)

    def middle(self) -> list[Token]:
        """Adverbs between subject and verb, and "not"."""
        verb, subject = self.clause.verb, self.clause.subject
        adverbs = [t for t in verb.children if t.dep_ == "advmod" and subject.i < t.i < verb.i and not list(t.children)]
        return sorted({*adverbs, *self.clause.negated}, key=lambda token: token.i)

    def rest(self, gap: Gap | None = None, *, short: bool = False, filled: str = "") -> str:
        """What stands behind the verb; `filled` stands where the gap is."""
        middle = {token.i for token in self.middle()}
        told = []
        for head in self.clause.parts:
            if head.i in middle or (
                short and head.i in self.optional and not (gap and gap.tokens & {t.i for t in head.subtree})
            ):
                continue
            told.append(self.filled(phrase(head), gap, filled))
        return " ".join(part for part in told if part)

    def filled(self, tokens: Sequence[Token], gap: Gap | None, filled: str) -> str:
        """The text of tokens, with `filled` in place of those in the gap."""
        asked = [token for token in tokens if gap is not None and token.i in gap.tokens]
        if not asked:
            return self.say(tokens)
        first, others = asked[0].i, [token for token in tokens if token not in asked]
        parts = (self.say([t for t in others if t.i < first]), filled, self.say([t for t in others if t.i > first]))
        return " ".join(part for part in parts if part)

    def verbs(self) -> tuple[str, str]:
        """(what goes before the subject in a question, what stays behind it); the first is "" for a plain verb."""
        clause = self.clause
        middle = self.say(self.middle())
        if clause.implied:
            return clause.implied, f"{middle} {clause.said}".strip()
        if clause.operators:
            others = [token.text for token in clause.operators[1:]]
            return clause.operators[0].lower_, " ".join(part for part in (middle, *others, clause.verb.text) if part)
        if clause.verb.lemma_ == "be":
            return clause.verb.lower_, middle
        return "", f"{middle} {clause.said}".strip()

    def declared(self, gap: Gap | None = None, *, short: bool = False, filled: str = "") -> str:
        """The clause as it is stated; `filled` in place of the gap's words if there is a gap."""
        operator, verb = self.verbs()
        subject = "" if gap is not None and gap.is_subject else self.subject(gap, filled)
        return " ".join(part for part in (subject, operator, verb, self.rest(gap, short=short, filled=filled)) if part)

    def predicate(self, *, short: bool = False) -> str:
        """What is said of the subject, of one: "is Ana's friend"."""
        operator, verb = self.verbs()
        if not operator and self.clause.tag == "VBP":
            verb = verb.removesuffix(self.clause.said) + inflected(self.clause.verb.lemma_, "VBZ")
        return " ".join(part for part in (_ONE.get(operator, operator), verb, self.rest(short=short)) if part)

    def asked(self, ask: str, gap: Gap, *, short: bool = False) -> str:
        """The question: "when was the mill built"."""
        operator, verb = self.verbs()
        if not operator:
            operator = {"VBD": "did", "VBZ": "does"}.get(self.clause.tag, "do")
            verb = verb.removesuffix(self.clause.said) + self.clause.verb.lemma_
        return " ".join(
            part
            for part in (ask, operator, self.subject(), verb, self.rest(gap, short=short, filled=gap.after))
            if part
        )


def wordings(draft: Draft, gap: Gap) -> list[str]:
    """Questions that the gap answers, the plainest first; each ends with its mark."""
    told = _of_subject(draft, gap) if gap.is_subject else _of_nested(draft, gap) if gap.nested else _of_part(draft, gap)
    return list(dict.fromkeys(_sentence(wording) for wording in told))


def _of_subject(draft: Draft, gap: Gap) -> Iterator[str]:
    full, short = draft.predicate(), draft.predicate(short=True)
    ask, *others = gap.asks()
    person = gap.kind.name == "person"
    if not draft.rest(short=True):
        short = full
    yield f"{ask} {full}?"
    yield f"{ask} {short}?"
    yield from (f"{other} {full}?" for other in others)
    yield f"can you tell me {ask} {full}?"
    yield f"name the {'person' if person else 'thing'} that {full}."
    if person:
        yield f"which person {short}?"
    if (passive := _passive(draft)) is not None:
        yield f"by {'whom' if person else 'what'} {passive}?"
    elif draft.clause.verb.lemma_ == "be":
        yield f"{draft.rest(short=True)} {_ONE.get(draft.verbs()[0], draft.verbs()[0])} {ask}?"


def _of_part(draft: Draft, gap: Gap) -> Iterator[str]:
    ask, *others = gap.asks()
    yield f"{draft.asked(ask, gap)}?"
    yield f"{draft.asked(ask, gap, short=True)}?"
    yield from (f"{draft.asked(other, gap)}?" for other in others)
    yield f"can you tell me {ask} {draft.declared(gap, short=True, filled=gap.after)}?"
    filled = others[0] if others else "whom" if ask == "who" and draft.clause.verb.lemma_ != "be" else ask
    if not gap.after:
        yield f"{draft.declared(gap, short=True, filled=filled)}?"
    yield f"I would like to know {ask} {draft.declared(gap, filled=gap.after)}."
    if (active := _active(draft, gap)) is not None:
        yield f"{ask} {active}?"


def _of_nested(draft: Draft, gap: Gap) -> Iterator[str]:
    for ask in gap.asks():
        filled = "whom" if ask == "who" else ask
        yield f"{draft.declared(gap, filled=filled)}?"
        yield f"{draft.declared(gap, short=True, filled=filled)}?"
    yield f"can you tell me: {draft.declared(gap, filled=filled)}?"


def _active(draft: Draft, gap: Gap) -> str | None:
    """ "built the mill in 1901", where the gap is who did it in a passive clause."""
    agents = [head for head in draft.clause.parts if head.dep_ == "agent"]
    operator, _ = draft.verbs()
    if not (gap.tokens & {t.i for head in agents for t in head.subtree}) or len(draft.clause.operators) > 1:
        return None
    if operator not in ("is", "are", "was", "were"):
        return None
    verb = inflected(draft.clause.verb.lemma_, "VBD" if operator in ("was", "were") else "VBZ")
    others = [head for head in draft.clause.parts if head.dep_ != "agent"]
    rest = " ".join(draft.say(phrase(head)) for head in others)
    return f"{verb} {draft.subject()} {rest}".strip()


def _passive(draft: Draft) -> str | None:
    """ "was the mill built in 1901", of a clause that says who built it."""
    clause = draft.clause
    patient = next((head for head in clause.parts if head.dep_ == "dobj"), None)
    if (
        patient is None
        or any(token.tag_ == "PRP$" for token in phrase(patient))
        or clause.operators
        or clause.negated
        or clause.verb.lemma_ in ("have", "be", "take", "cost", "weigh")
    ):
        return None
    if any(head.dep_ in ("prt", "dative", "xcomp", "ccomp") for head in clause.parts):
        return None
    past, many = clause.tag == "VBD", is_plural(patient)
    operator = ("were" if many else "was") if past else ("are" if many else "is")
    others = " ".join(
        draft.say(phrase(head)) for head in clause.parts if head is not patient and head.i not in draft.optional
    )
    told = f"{operator} {draft.say(phrase(patient))} {inflected(clause.verb.lemma_, 'VBN')} {others}"
    return " ".join(told.split())


def _sentence(text: str) -> str:
    text = " ".join(text.split()).replace(" ,", ",").replace(" ?", "?")
    return text[:1].upper() + text[1:]
