"""What can be asked for beside noun phrases: why, how, to do what, how long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lorary.intake.generators.asking import Gap
from lorary.intake.generators.grammar import phrase
from lorary.intake.generators.kinds import REASON, Kind

if TYPE_CHECKING:
    from lorary.intake.generators.grammar import Token

LONGEST = 10
"""Words of the longest answer; of a reason half as many again."""


def deeds(verb: Token) -> Iterator[Gap]:
    """ "designed to balance the spirit" answers "what is it designed to do"."""
    told = [token for token in phrase(verb) if token.i >= verb.i]
    to = [child for child in verb.children if child.tag_ == "TO"]
    if verb.tag_ == "VB" and to and 2 <= len(told) <= LONGEST and verb.lemma_ != "be":
        tokens = frozenset(token.i for token in verb.subtree)
        yield Gap(tokens, tuple(told), Kind("deed", ("what",), particular=False), after="to do")


def measures(adjective: Token) -> Iterator[Gap]:
    """ "12 metres long" answers "how long"; "42 years old" answers "how old"."""
    measure = next((child for child in adjective.children if child.dep_ == "npadvmod"), None)
    if measure is not None and any(child.dep_ == "nummod" for child in measure.children):
        tokens = frozenset(token.i for token in phrase(adjective))
        yield Gap(tokens, tuple(phrase(measure)), Kind("measure", (f"how {adjective.lower_}",)))


def reasons(clause: Token) -> Iterator[Gap]:
    mark = next((child for child in clause.children if child.dep_ == "mark"), None)
    purpose = clause.tag_ == "VB" and any(child.tag_ == "TO" for child in clause.children)
    because = mark is not None and mark.lower_ == "because"
    told = [token for token in clause.subtree if not token.is_punct or token.is_quote]
    if (because or purpose) and len(told) <= LONGEST * 3 // 2:
        answer = [token for token in told if not (because and token == mark)]
        yield Gap(frozenset(token.i for token in clause.subtree), tuple(answer), REASON)


def means(preposition: Token, verb: Token) -> Iterator[Gap]:
    """ "by burning peat" answers "how"; "for burning peat" answers "for what"."""
    told = tuple(phrase(verb))
    if len(told) <= LONGEST and preposition.lower_ == "by":
        yield Gap(
            frozenset(t.i for t in preposition.subtree), told, Kind("means", ("how", "by what means"), particular=False)
        )
    elif len(told) <= LONGEST:
        yield Gap(frozenset(t.i for t in verb.subtree), told, Kind("deed", ("what",), particular=False))
