"""A parsed sentence → its clauses: who does what, and the parts that can be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lorary.intake.english import listed
from lorary.intake.generators.grammar import inflected
from lorary.intake.generators.kinds import is_person

if TYPE_CHECKING:
    from lorary.intake.generators.grammar import Span, Token

SUBJECTS = ("nsubj", "nsubjpass", "expl")
_OPERATORS = ("aux", "auxpass")
_NEVER_PARTS = (
    "nsubj",
    "nsubjpass",
    "csubj",
    "expl",
    "aux",
    "auxpass",
    "mark",
    "cc",
    "conj",
    "punct",
    "parataxis",
    "intj",
    "neg",
)
_FINITE = ("VBD", "VBZ", "VBP")
_ASIDES = ("while", "as", "although", "though", "whereas", "if", "when", "since", "which", "so")


@dataclass(frozen=True)
class Clause:
    """A subject and what is said of it.

    Args:
        verb: its main verb, or the form of "be" that joins subject and complement.
        subject: the head of its subject; of a relative clause the noun that it hangs on.
        operators: auxiliary verbs in order; a second verb ("was built and sold") has those of the first.
        negated: "not" or its like, if there is one.
        parts: heads of what is said beside subject and verb, in order.
        implied: the auxiliary that a participle stands without: "was" in "a violin made by ...".
        form: the form of the verb that would stand in place of a participle: "encircles".
    """

    verb: Token
    subject: Token
    operators: tuple[Token, ...]
    negated: tuple[Token, ...]
    parts: tuple[Token, ...]
    implied: str = ""
    form: str = ""

    @property
    def said(self) -> str:
        """The verb as it stands, or as it would stand in a whole sentence: "encircles" for "a moat encircling it"."""
        return self.form or (self.verb.lower_ if self.verb.i == self.verb.sent.start else self.verb.text)

    @property
    def tag(self) -> str:
        """Its Penn tag: VBD, VBZ or VBP where it stands without an auxiliary."""
        return self.verb.tag_ if not self.form else "VBD" if self.past else "VBP" if self.plural else "VBZ"

    @property
    def plural(self) -> bool:
        return is_plural(self.subject)

    @property
    def past(self) -> bool:
        first = self.operators[0] if self.operators else self.verb
        if self.form:
            first = next((above for above in self.verb.ancestors if above.pos_ in ("VERB", "AUX")), first)
        return first.tag_ in ("VBD", "VBN")


def is_plural(noun: Token) -> bool:
    joined = any(child.dep_ == "conj" for child in noun.children) and any(
        child.lemma_ == "and" for child in noun.children
    )
    return joined or noun.tag_ in ("NNS", "NNPS") or noun.lower_ in ("they", "we", "these", "those", "both", "many")


def clauses_of(sentence: Span) -> Iterator[Clause]:
    """The clauses of a sentence, in order: main and second verbs, relative clauses, what somebody said, "made by ...".

    What somebody hopes, wants or doubts is not stated, and gives none.
    """
    for token in sentence:
        if token.pos_ not in ("VERB", "AUX") or token.dep_ in _OPERATORS or not _is_stated(token):
            continue
        if (clause := _clause(token)) is not None:
            yield clause


def _is_stated(verb: Token) -> bool:
    """Whether a clause is told as a fact: not behind "if", and not what is hoped, ensured or imagined."""
    above = [verb, *verb.ancestors]
    if any(token.dep_ == "mark" and token.lower_ in ("if", "unless", "whether") for v in above for token in v.children):
        return False
    if any(token.lower_ == "only" and token.i and token.nbor(-1).lower_ == "not" for token in verb.subtree):
        return False  # "not only ... but"
    told = [token for token in above if token.dep_ == "ccomp" and token.i > token.head.i]
    return all(token.head.lemma_ in listed("tells") for token in told)


def _clause(verb: Token) -> Clause | None:
    subject = _subject(verb)
    if subject is None or (subject.tag_ in ("WP", "WDT", "EX") and subject.dep_ != "expl"):
        return None
    if verb.dep_ == "advcl" and subject.lower_ in ("you", "we", "one"):
        return None  # "before you clean it" tells when, not that you do
    operators = _operators(verb)
    negated = tuple(child for child in verb.children if child.dep_ == "neg")
    if any(child.tag_ in ("WRB", "WP", "WDT") and child.dep_ not in SUBJECTS for child in verb.children):
        return None
    if verb.dep_ in ("acl", "advcl") and not operators and not any(child.dep_ in SUBJECTS for child in verb.children):
        if verb.tag_ == "VBN":
            return Clause(
                verb, subject, (), negated, tuple(_parts(verb)), implied="were" if is_plural(subject) else "was"
            )
        if verb.tag_ != "VBG" or verb.dep_ == "advcl":
            return None
        clause = Clause(verb, subject, (), negated, tuple(_parts(verb)), form=verb.text)
        return replace(clause, form=inflected(verb.lemma_, clause.tag if clause.tag != "VBP" else "VB"))
    first = operators[0] if operators else verb
    if first.tag_ not in (*_FINITE, "MD") or not _agrees(first, subject):
        return None
    return Clause(verb, subject, operators, negated, tuple(_parts(verb)))


def _agrees(first: Token, subject: Token) -> bool:
    """Whether a verb and its subject are both of one, or both of many; where they are not, the parser took wrong ones."""
    if first.tag_ == "VBZ":
        return not is_plural(subject)
    one = is_person(subject) or any(
        child.lower_ in ("a", "an", "this", "that", "each", "every") for child in subject.children
    )
    return first.tag_ != "VBP" or is_plural(subject) or not one or subject.lemma_ in listed("quantities")


def _subject(verb: Token) -> Token | None:
    own = next((child for child in verb.children if child.dep_ in SUBJECTS), None)
    if verb.dep_ == "relcl":
        # "who founded it" hangs on its noun; "that she founded" does not.
        return verb.head if own is not None and own.tag_ in ("WP", "WDT") else None
    if verb.dep_ == "acl":
        return verb.head
    if own is None and verb.dep_ == "advcl" and verb.tag_ == "VBN" and not any(c.dep_ == "mark" for c in verb.children):
        return _subject(verb.head) if verb.head.pos_ in ("VERB", "AUX") else None  # "Built in 1894, it ..."
    if own is None and verb.dep_ == "conj" and verb.head.pos_ in ("VERB", "AUX"):
        return _subject(verb.head)
    return own


def _operators(verb: Token) -> tuple[Token, ...]:
    own = tuple(child for child in verb.children if child.dep_ in _OPERATORS and child.tag_ != "TO")
    bare = verb.tag_ in ("VB", "VBN", "VBG")
    if not own and bare and verb.dep_ == "conj" and verb.head.pos_ in ("VERB", "AUX"):
        return _operators(verb.head)
    return own


def _parts(verb: Token) -> Iterator[Token]:
    """Heads of the parts; a fronted one ("In 1987, ...") counts as one of the last."""
    children = [child for child in verb.children if child.dep_ not in _NEVER_PARTS and not _is_aside(child)]
    yield from (child for child in children if child.i > verb.i)
    yield from (child for child in children if child.i < verb.i)


def _is_aside(child: Token) -> bool:
    """Whether a part is said in passing, so that a question does well without it."""
    if child.dep_ == "advcl":
        first = child.left_edge
        marks = {token.lower_ for token in child.children if token.dep_ in ("mark", "advmod")}
        return (first.i > 0 and first.nbor(-1).text == ",") or bool(marks & {*_ASIDES}) or len(list(child.subtree)) > 10
    if child.dep_ == "advmod":
        return child.lower_ in (
            "however",
            "also",
            "then",
            "thus",
            "therefore",
            "meanwhile",
            "moreover",
            "instead",
            "there",
            "here",
            "later",
            "now",
        )
    if child.dep_ == "ccomp":
        return child.i < child.head.i
    return child.dep_ in ("dep", "preconj", "meta")
