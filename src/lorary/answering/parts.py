"""A question's parts: what asks for two things at once is asked one by one, each under a route of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lorary.base.followups import follows_up

_END = re.compile(r"(?<=\?)\s+")
_CONNECTIVE = re.compile(r"^(and|also|but|then)\b[\s,:]*", re.IGNORECASE)


def parts_of(question: str) -> list[str]:
    """The parts of a question, in order; what has no two parts is left as it is, to the letter.

    A part ends at a question mark. What asks nothing ("Two things:", "Please answer both.") stays before the part that
    it introduces, or behind the last: it may tell what the part is about. A part that points back, as a follow-up in a
    chat does ("And who is her cook?"), cannot stand alone and stays with the part before it. An "and" within a sentence
    parts nothing: it joins names and things as often as questions.
    """
    parts: list[str] = []
    for piece in _END.split(question.strip()):
        asking = _CONNECTIVE.sub("", piece.rpartition(":")[2].strip())
        alone = "?" in piece and not follows_up(asking)
        if alone or not parts:
            # What stands alone is no follow-up in a chat either, so it does not begin like one.
            parts.append(asking[:1].upper() + asking[1:] if parts and ":" not in piece else piece)
        else:
            parts[-1] += f" {piece}"
    return parts if len(parts) > 1 else [question]


def joined(answers: Iterable[str]) -> str:
    """The answers of a question's parts as one text, each answer once."""
    return "; ".join(dict.fromkeys(answer for answer in answers if answer))
