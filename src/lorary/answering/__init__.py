"""A chat in; its answer, route and passages out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorary.exports import lazy_names

if TYPE_CHECKING:
    from lorary.answering.answers import answer as answer
    from lorary.answering.answers import answer_parts as answer_parts
    from lorary.answering.routed import Answer as Answer

_HOMES = {
    "Answer": "lorary.answering.routed",
    "answer": "lorary.answering.answers",
    "answer_parts": "lorary.answering.answers",
}
__all__ = sorted(_HOMES)
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
