"""A generator that needs no language model: questions by rule over parsed English sentences.

After Heilman and Smith (2010), "Good Question! Statistical Ranking for Question Generation": simplify sentences to clauses,
take a part away, and ask for it. Here the parts come from a dependency parse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.intake.generators.antecedents import antecedents, unresolved
from lorary.intake.generators.asking import Draft, Gap, wordings
from lorary.intake.generators.clauses import Clause, clauses_of
from lorary.intake.generators.gaps import gaps_of
from lorary.intake.generators.grammar import is_english, parsed, phrase, plain, without_heading, words
from lorary.intake.generators.naming import named_in
from lorary.intake.generators.orders import as_statements, as_told
from lorary.intake.source import LeftOut

if TYPE_CHECKING:
    from lorary.intake.generators.grammar import Span, Token

_OPTIONAL_KINDS = ("time", "place", "often", "span")


@dataclass(frozen=True)
class Rules:
    """Proposes facts by rule."""

    def propose(
        self, passage: Passage, covered: Sequence[Fact], topic: str, *, before: str = "", missed: Sequence[str] = ()
    ) -> Iterator[Fact | LeftOut]:
        """Facts of an English passage; of the missed sentences alone where there are any."""
        heading, said = without_heading(plain(passage.text))
        context = f"{plain(before)} {heading}.".removesuffix(" .").strip()
        doc = parsed(f"{context} {as_statements(said)}".strip())
        if not is_english(doc):
            yield LeftOut(passage.source, said[:80], "the rules read English alone")
            return
        meant = antecedents(doc)
        start = len(context) + 1 if context else 0
        for sentence in doc.sents:
            if sentence.start_char < start:
                continue
            if missed and not any(as_told(sentence.text)[:40] in plain(other) for other in missed):
                continue
            if not _is_prose(sentence):
                continue
            for questions, answer, statement in _sentence_facts(sentence, meant):
                yield Fact(
                    topic, questions[0], answer, tuple(questions[1:]), statement=statement, source=passage.source
                )


def _sentence_facts(sentence: Span, meant: dict[int, str]) -> list[tuple[list[str], str, str]]:
    found = []
    for clause in clauses_of(sentence):
        if unresolved(_said(clause), meant) or _is_quoted(clause):
            continue
        gaps = list(gaps_of(clause))
        optional = _optional(clause, gaps)
        draft = Draft(clause, meant, optional)
        for gap in gaps:
            if not gap.answer or gap.answer[-1].dep_ == "prep":
                continue  # the parser lost its noun
            answer = words(gap.answer, meant)
            statement = draft.declared()
            statement = statement[0].upper() + statement[1:] + "."
            found.append((wordings(draft, gap), answer, statement))
    for named in named_in(sentence, meant):
        found.append((list(named.wordings), named.answer, named.statement))
    return found


def _is_prose(sentence: Span) -> bool:
    """Whether a sentence states something: no question, no title, no row of a table, no address."""
    said = [token for token in sentence if token.is_alpha and len(token) > 3]
    titled = sum(token.text[0].isupper() for token in said) > 0.7 * len(said)
    ended = sentence.text.rstrip("\"')] ")[-1:] in (".", "!", "…")
    odd = any(token.like_url or token.text in ("|", "@") for token in sentence)
    return not odd and not sentence.text.rstrip("\"') ").endswith("?") and (ended or not titled)


def _is_quoted(clause: Clause) -> bool:
    """Whether somebody speaks of himself: "we" within quotation marks."""
    doc = clause.verb.doc
    inside = sum(token.text in ('"', "“", "”") for token in doc[: clause.verb.i]) % 2 == 1
    return inside and any(token.lower_ in ("we", "us", "our", "you", "your", "it") for token in clause.verb.sent)


def _said(clause: Clause) -> list[Token]:
    return [*phrase(clause.subject), *(token for part in clause.parts for token in phrase(part))]


def _optional(clause: Clause, gaps: Sequence[Gap]) -> frozenset[int]:
    """Heads of the parts that say when, where and how, which a short question leaves out."""
    told = {token for gap in gaps if gap.kind.name in _OPTIONAL_KINDS for token in gap.tokens}
    kinds = ("advmod", "advcl", "npadvmod", "agent")
    return frozenset(part.i for part in clause.parts if part.dep_ in kinds or (part.dep_ == "prep" and part.i in told))
