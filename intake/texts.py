"""Bytes → text: only what is told or certain, since a wrong guess would fill a memory with wrong letters."""

from __future__ import annotations

import codecs
from pathlib import Path

from lorary.intake.source import IntakeError, Unreadable

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def check_encoding(encoding: str | None) -> None:
    """Raises IntakeError for an encoding that is not known."""
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError:
        raise IntakeError(f"--encoding {encoding!r} is not known; give one such as utf-8, cp1252 or utf-16") from None


def read_text(path: Path, encoding: str | None = None) -> str:
    """The text of a file in UTF-8, in UTF-16 with its mark, or in the encoding that is given; lines end in \\n.

    Raises:
        Unreadable: the bytes are not of that encoding; the reason names one that fits, if there is one.
    """
    data = path.read_bytes()
    marked = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    try:
        text = data.decode(marked or encoding or "utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not {error.encoding} text{_remedy(data)}") from None
    if "\0" in text:
        raise Unreadable("it holds NUL characters, so it is no text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _remedy(data: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(data[:100_000]).best()
    return (
        f"; it may be {best.encoding}: give --encoding {best.encoding}, or save it as UTF-8"
        if best
        else "; save it as UTF-8"
    )
