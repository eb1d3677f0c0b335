"""Words of people's texts in any script: the only place that says what a word is.

Python's `re` cuts words at combining marks: vowel signs of Hindi, Tamil and Thai, vowel points of Arabic and Hebrew, accents
that stand apart from their letters.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from hashlib import blake2b

import regex

LETTER = r"[\p{L}\p{N}\p{M}_\u200c\u200d]"
"""A pattern of `regex` for what words consist of: what `re` takes as `\\w`, and marks and joiners of letters besides."""
WORD = regex.compile(rf"[\p{{L}}\p{{N}}_]{LETTER}*")
"""A word, as `re` finds it by `\\w+` in a text without marks. None begins with a mark or a joiner, which emojis hold too."""


def words_of(text: str) -> list[str]:
    """The words of a text, in its order and its case."""
    return WORD.findall(text)


def lowered(text: str) -> str:
    """The text in lower case, equal for letters with accents in one piece and those with accents apart (Unicode's NFC)."""
    return unicodedata.normalize("NFC", text).lower()


@lru_cache(maxsize=2**16)
def word_code(word: str) -> int:
    """A number of 64 bits for a word, the same in every process."""
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little", signed=True)
