"""A chat in; its answer, route and passages out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorary.exports import lazy_names

if TYPE_CHECKING:
    from lorary.answering.answers import Answer as Answer
    from lorary.answering.answers import answer as answer
    from lorary.answering.answers import answer_parts as answer_parts

_HOMES = dict.fromkeys(("Answer", "answer", "answer_parts"), "lorary.answering.answers")
__all__ = sorted(_HOMES)
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
