"""What a chat template writes around a user's turn, and the user's turns found by it in a text that came from tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from lorary.base.templates import PromptError, rendered, special_tokens, templates_of

_ASKS = re.compile(r"[?？؟]")
_SYSTEM, _FIRST, _REPLY, _SECOND, _RESULT = "zasystem", "zbfirst", "zcreply", "zdsecond", "zeresult"
"""Contents that stand out in a rendering, so that what a template writes between them can be told."""


def user_turns(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """What the user said in each turn of a prompt, without special tokens; none where no chat template made the prompt.

    A tool's result that a template writes as a user's turn is left out.
    """
    for frame in _frames(tokenizer, templates_of(tokenizer), len(tokenizer)):
        if turns := frame.turns(text):
            return [without_tokens(frame.said(turn), frame.special) for turn in turns]
    return _turns_apart(tokenizer, text)


def _turns_apart(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """The user's turns where a template writes nothing but an end behind each turn: the last one is the user's, and
    every second one before it."""
    templates, end = templates_of(tokenizer), str(tokenizer.eos_token or "")
    if not end or not templates or _frames(tokenizer, templates, len(tokenizer)):
        return []
    turns = [without_tokens(turn, special_tokens(tokenizer)) for turn in text.removesuffix(end).split(end)]
    return turns[::-2][::-1] if len(turns) > 1 else []


def ends_within_turn(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether a text ends before its last user's turn does, as the first piece of a prompt may."""
    for frame in _frames(tokenizer, templates_of(tokenizer), len(tokenizer)):
        openings = frame.openings(text)
        if openings and frame.closing is not None:
            return frame.closing.search(text, openings[-1].end()) is None
    return False


def without_tokens(text: str, special: Sequence[str]) -> str:
    """The text with a space in the place of each special token."""
    for token in special:
        text = text.replace(token, " ")
    return text.strip()


@dataclass(frozen=True)
class Frame:
    """What a template writes around what a user says. White space does not count: tokenizers add it and drop it.

    Args:
        special: the tokenizer's special tokens.
        opening: stands before it.
        closing: stands behind it; None where nothing does.
        bounded: whether the opening, a word such as "User:", counts only at the start, after white space or after a
            special token.
        system_end: stands between a system's text and the user's within one turn ("<</SYS>>"); None where nothing does.
        system_inside: whether a system's text stands in a user's turn with only white space behind it.
        result: how a user's turn begins that is a tool's result ("<tool_response>"); None where no such turn is written.
    """

    special: tuple[str, ...]
    opening: re.Pattern[str]
    closing: re.Pattern[str] | None
    bounded: bool
    system_end: re.Pattern[str] | None = None
    system_inside: bool = False
    result: re.Pattern[str] | None = None

    def turns(self, text: str) -> list[str]:
        """What stands in each user's turn of `text`, a tool's results left out."""
        openings = self.openings(text)
        ends = [opening.start() for opening in openings[1:]] + [len(text)]
        turns = [text[opening.end() : end] for opening, end in zip(openings, ends, strict=False)]
        if self.closing is not None:
            turns = [self.closing.split(turn, maxsplit=1)[0] for turn in turns]
        return [turn for turn in turns if self.result is None or not self.result.match(turn)]

    def openings(self, text: str) -> list[re.Match[str]]:
        """What opens the user's turns of `text`."""
        return [found for found in self.opening.finditer(text) if self._counts(found)]

    def _counts(self, opening: re.Match[str]) -> bool:
        apart = opening[0][0].isspace() or _ended(opening.string[: opening.start()], self.special)
        return apart or not self.bounded

    def said(self, turn: str) -> str:
        """What the user said in a turn, without a system's text.

        Where only white space stands behind a system's text, it looks like a paragraph of the user's. Then what the user
        said starts at the last paragraph that asks; where none asks it is the whole turn.
        """
        if self.system_end is not None:
            turn = self.system_end.split(turn)[-1]
        if not self.system_inside:
            return turn
        paragraphs = turn.strip().split("\n\n")
        asking = [i for i, paragraph in enumerate(paragraphs) if _ASKS.search(paragraph)]
        return "\n\n".join(paragraphs[asking[-1] :]) if asking else turn


def _ended(before: str, special: tuple[str, ...]) -> bool:
    return not before or before[-1].isspace() or before.endswith(special)


@lru_cache(maxsize=16)
def _frames(tokenizer: PreTrainedTokenizerBase, templates: tuple[str, ...], _: int) -> tuple[Frame, ...]:
    """The frame of each template for which one can be told; those that know a tool's result from a user's words first."""
    frames = (_Lesson(tokenizer, template).frame() for template in templates)
    return tuple(sorted((frame for frame in frames if frame is not None), key=lambda frame: frame.result is None))


def _turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


_CHAT = (_turn("user", _FIRST), _turn("assistant", _REPLY), _turn("user", _SECOND))
_CALL = {"id": "call00001", "type": "function", "function": {"name": "look", "arguments": {}}}


class _Lesson:
    """Learns a template's frame from the second of two user's turns.

    What a template writes once, such as the token that begins a text, a date or a default system's turn, stands before
    the first turn alone, so it is no part of the frame.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
        self.tokenizer, self.template, self.special = tokenizer, template, special_tokens(tokenizer)
        added = {token.content for token in tokenizer.added_tokens_decoder.values()} | {*self.special}
        whole = "|".join(re.escape(token) for token in sorted(added, key=len, reverse=True))
        self.tokens = re.compile(f"({whole or '(?!)'})")

    def text(self, turns: Sequence[dict[str, Any]], *shown: str) -> str:
        """The rendering as it comes back from tokens; "" where the template refuses it, or shows a content not once."""
        try:
            text = rendered(self.tokenizer, turns, template=self.template)
        except PromptError:
            return ""
        read = str(self.tokenizer.decode(self.tokenizer(text, add_special_tokens=False).input_ids))
        return next((t for t in (read, text) if all(t.count(content) == 1 for content in shown)), "")

    def frame(self) -> Frame | None:
        text = self.text(_CHAT, _FIRST, _REPLY, _SECOND)
        before, _, rest = text.partition(_FIRST)
        ended, _, rest = rest.partition(_REPLY)
        between, _, after = rest.partition(_SECOND)
        behind = [piece for piece in self.shared(after, ended) if piece.strip()]
        closing = behind[0].strip() if behind else ""
        opening = self.shared(between, before, ends=True)
        if closing in opening:  # it ends the turn before
            opening = opening[len(opening) - opening[::-1].index(closing) :]
        if (
            opening
            and opening[0] in (self.tokenizer.bos_token, self.tokenizer.eos_token)
            and "".join(opening[1:]).strip()
        ):
            opening = opening[1:]
        words = "".join(opening).strip()
        if not words:
            return None
        bounded = words[0].isalnum() and _ended(between[: between.rindex(words)] or "?", self.special)
        frame = Frame(self.special, _loose(words), _loose(closing) if closing else None, bounded)
        return self.with_result(self.with_system(frame))

    def shared(self, left: str, right: str, ends: bool = False) -> list[str]:
        """The pieces, tokens and texts between them, with which both begin (or end); the last one may be a part of it."""
        step = -1 if ends else 1
        pieces: list[str] = []
        pairs = zip(*([p for p in self.tokens.split(t) if p][::step] for t in (left, right)), strict=False)
        for one, other in pairs:
            alike = 0
            if one == other:
                alike = len(one)
            elif not (self.tokens.fullmatch(one) or self.tokens.fullmatch(other)):
                same = [a == b for a, b in zip(one[::step], other[::step], strict=False)]
                alike = same.index(False) if False in same else len(same)
            if alike:
                pieces.append(one[-alike:] if ends else one[:alike])
            if one != other:
                break
        return pieces[::step]

    def with_system(self, frame: Frame) -> Frame:
        """The frame with what ends a system's text in a user's turn, if the template writes it there."""
        text = self.text([_turn("system", _SYSTEM), *_CHAT], _SYSTEM, _FIRST, _REPLY, _SECOND)
        behind = re.split(f"{_FIRST}|{_SECOND}", text.partition(_SYSTEM)[2])[0]
        if not text or frame.opening.search(behind):
            return frame
        mark = behind.strip()
        return replace(frame, system_end=_loose(mark)) if mark else replace(frame, system_inside=True)

    def with_result(self, frame: Frame) -> Frame:
        """The frame with what begins a user's turn that is a tool's result, if the template writes it as one."""
        result = _turn("tool", _RESULT, name="look", tool_call_id=_CALL["id"])
        for reply in (_turn("assistant", "", tool_calls=[_CALL]), _turn("assistant", _REPLY)):
            turns = frame.turns(self.text([_turn("user", _FIRST), reply, result], _FIRST, _RESULT))
            if turns and _RESULT in turns[-1] and (start := turns[-1].partition(_RESULT)[0].split()):
                return replace(frame, result=_loose(start[0]))
        return frame


def _loose(words: str) -> re.Pattern[str]:
    """A pattern for the words with any white space between and around them."""
    return re.compile(r"\s*" + r"\s*".join(re.escape(word) for word in words.split()) + r"\s*")
