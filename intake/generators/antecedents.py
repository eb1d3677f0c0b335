"""Whom a pronoun or a last name means, where the text leaves no doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorary.intake.generators.clauses import SUBJECTS, is_plural
from lorary.intake.generators.grammar import phrase, words
from lorary.intake.generators.kinds import is_person

if TYPE_CHECKING:
    from lorary.intake.generators.grammar import Doc, Token

PERSONAL = frozenset({"he", "she", "him", "her", "his", "hers", "himself", "herself"})
THINGS = frozenset({"it", "its", "itself"})
MANY = frozenset({"they", "them", "their", "theirs", "themselves"})
UNKNOWN = frozenset(
    {
        "i",
        "me",
        "my",
        "mine",
        "myself",
        "someone",
        "something",
        "somebody",
        "everyone",
        "ones",
        "one",
        "such",
        "this",
        "that",
        "these",
        "those",
        "another",
        "others",
        "latter",
        "former",
    }
)
"""Words that mean something else in each text and that nothing here resolves, where they stand alone."""


def antecedents(doc: Doc) -> dict[int, str]:
    """What to say for each pronoun and last name, by its place; those in doubt are missing."""
    meant: dict[int, str] = {}
    full_names: dict[str, str] = {}
    people: list[str] = []
    subjects: list[Token] = []
    for sentence in doc.sents:
        near = people[-1:] if len(set(people)) == 1 else []
        for token in sentence:
            if token.dep_ == "det" and token.lower_ in ("this", "these", "that", "those"):
                meant[token.i] = "the"
                continue
            name = _resolved(token, subjects, near, meant)
            if name is not None:
                near_by = token.tag_ == "PRP$" and _of_its_own_clause(token)
                meant[token.i] = token.text if near_by else f"{name}'s" if token.tag_ == "PRP$" else name
        here = [span for span in sentence.ents if span.label_ == "PERSON" and is_person(span.root)]
        for span in here:
            full = full_names.get(span.text, span.text)
            if full != span.text:
                meant[span.start] = full
            else:
                full_names[span[-1].text if len(span) > 1 else span.text] = span.text
        people = [full_names.get(span.text, span.text) for span in here] or people
        subjects = [token for token in sentence if token.dep_ in SUBJECTS and token.tag_ != "EX"]
    return meant


def _resolved(token: Token, subjects: list[Token], near: list[str], meant: dict[int, str]) -> str | None:
    """What a pronoun stands for: the subject of this sentence before it, or of the last one; or the one person told of."""
    said = token.lower_
    if said.endswith(("self", "selves")):
        return token.text  # it is understood with the subject of its own clause
    if token.tag_ not in ("PRP", "PRP$") or said not in PERSONAL | THINGS | MANY:
        return None
    before = [
        t for t in token.sent if t.i < token.i and t.dep_ in SUBJECTS and t.tag_ not in ("PRP", "EX", "WP", "WDT")
    ]
    own = [t for t in token.sent if t.i < token.i and t.i in meant and t.lower_ in _family(said)]
    if own:
        return meant[own[-1].i].removesuffix("'s")
    fits = [t for t in (before or subjects) if _fits(t, said, meant)]
    if said in PERSONAL and not fits:
        return near[0] if near else None
    names = {_name(t, meant) for t in fits}
    return names.pop() or None if len(names) == 1 else None


def _of_its_own_clause(possessive: Token) -> bool:
    """Whether "its" stands in the clause of the noun that it means, and so is understood with it."""
    verb = next((above for above in possessive.ancestors if above.pos_ in ("VERB", "AUX")), None)
    own = verb is not None and any(
        t.dep_ in SUBJECTS and t.i < possessive.i and possessive not in t.subtree for t in verb.children
    )
    return own and all(t.tag_ != "PRP" for t in verb.children if t.dep_ in SUBJECTS) if verb is not None else False


def _family(said: str) -> frozenset[str]:
    return next(family for family in (PERSONAL, THINGS, MANY) if said in family)


def _fits(subject: Token, said: str, meant: dict[int, str]) -> bool:
    if subject.pos_ == "PRON":
        return subject.i in meant and subject.lower_ in _family(said)
    if said in PERSONAL:
        return is_person(subject) and not is_plural(subject)
    return is_plural(subject) if said in MANY else not is_plural(subject) and not is_person(subject)


def _name(subject: Token, meant: dict[int, str]) -> str:
    if subject.i in meant:
        return meant[subject.i]
    name = words(phrase(subject), meant)
    first, _, rest = name.partition(" ")
    if first.lower() in ("a", "an"):
        name = f"the {rest}"
    return name[0].lower() + name[1:] if name.startswith(("The ", "A ", "An ", "Our ", "Your ")) else name


def unresolved(tokens: list[Token], meant: dict[int, str]) -> bool:
    """Whether a pronoun that nobody can resolve stands in these words."""
    for token in tokens:
        if token.i in meant:
            continue
        alone = token.pos_ == "PRON" or token.dep_ in SUBJECTS
        if token.lower_ in PERSONAL | THINGS | MANY or (
            token.lower_ in UNKNOWN and alone and token.tag_ not in ("WDT", "IN")
        ):
            return True
    return False
