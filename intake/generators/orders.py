"""What a text tells its reader to do → what the reader should do: "Clean the burrs." → "You should clean the burrs."."""

from __future__ import annotations

from typing import TYPE_CHECKING

import regex

from lorary.intake.english import listed
from lorary.intake.generators.grammar import is_base, parsed

if TYPE_CHECKING:
    from lorary.intake.generators.grammar import Span

SHOULD, MUST_NOT = "You should ", "You must not "
_FORBIDS = regex.compile(r"(?:[Dd]o not|[Dd]on['’]t|[Nn]ever) (?=\p{Ll})")

_TELLS = regex.compile(r"(?:(?:Please|Always|Now|Then|First)[, ]+)?(?P<verb>\p{L}+) (?P<next>\S+)")
_BEFORE_COMMA = regex.compile(r"(?:If|When|Before|After|Once|To) [^,;.]{3,80}, ")


def as_statements(text: str) -> str:
    """An English text in which each command is a statement of what "you" should or must not do; the rest stays."""
    parts: list[str] = []
    for sentence in parsed(text).sents:
        said = sentence.text_with_ws
        condition = _BEFORE_COMMA.match(said)
        start = condition.end() if condition else 0
        forbidden, told = _FORBIDS.match(said, start), _TELLS.match(said, start)
        if forbidden is not None:
            said = f"{said[:start]}{MUST_NOT if not start else MUST_NOT.lower()}{said[forbidden.end() :]}"
        elif told is not None and _commands(sentence, told):
            place = told.start("verb")
            said = f"{said[:start]}{SHOULD if not start else SHOULD.lower()}{said[place].lower()}{said[place + 1 :]}"
        parts.append(said)
    return "".join(parts)


def as_told(sentence: str) -> str:
    """The end of a sentence, which `as_statements` left as it stood."""
    return regex.split(rf"(?i)(?:{SHOULD}|{MUST_NOT})", sentence)[-1][1:]


def _commands(sentence: Span, told: regex.Match[str]) -> bool:
    """Whether a sentence begins with a verb in its base form that no subject stands before.

    A parser takes "Clean" and "Empty" for adjectives; before "the" they are verbs.
    """
    if not sentence.text.rstrip().endswith((".", "!", ":")) and len(sentence) > 25:
        return False
    verb = next((token for token in sentence if token.idx == sentence.start_char + told.start("verb")), None)
    if verb is None or verb.lower_ in listed("no deeds") or not is_base(verb.lower_):
        return False
    has_subject = any(child.dep_ in ("nsubj", "nsubjpass", "expl", "csubj") for child in verb.children)
    if verb.tag_ in ("VB", "VBP") and verb.dep_ == "ROOT":
        return not has_subject
    return verb.tag_ in ("JJ", "NN", "NNP", "VB", "VBP") and told["next"].lower() in listed("determiners")
