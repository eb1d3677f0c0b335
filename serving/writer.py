"""Writer: tokens become text piece by piece, up to where a stop stands."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

CUT = "\ufffd"
"""What stands for a letter whose bytes have not all come."""


class Writer:
    """Turns the tokens of one answer into text.

    Args:
        stops: texts that end the answer and are no part of it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str] = ()) -> None:
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        self._ids: list[int] = []
        self._start = self._read = 0  # the tokens from _start on are decoded; the text of those up to _read is known
        self._withheld = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """The text that is sure once a token has come; "" while a letter is not whole, or a stop may have begun."""
        self._ids.append(token)
        before, after = self._decode(self._ids[self._start : self._read]), self._decode(self._ids[self._start :])
        if after.endswith(CUT) or len(after) <= len(before):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return self._without_stop(after[len(before) :])

    def end(self) -> str:
        """The text that is left when no token follows."""
        before, after = self._decode(self._ids[self._start : self._read]), self._decode(self._ids[self._start :])
        text = "" if self.stopped else self._without_stop(after[len(before) :])
        if not self.stopped:
            text, self._withheld = text + self._withheld, ""
        return text

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)) if ids else ""

    def _without_stop(self, new: str) -> str:
        text = self._withheld + new
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.stopped, self._withheld = True, ""
            return text[: min(places)]
        kept = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._withheld = text[len(text) - kept :]
        return text[: len(text) - kept]


def _overlap(text: str, stop: str) -> int:
    """The letters at the end of a text with which a stop begins."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
