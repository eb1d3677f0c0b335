"""Lists of English words that the rules and the checks go by."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from lorary.bank.facts import read_lines


def listed(name: str) -> frozenset[str]:
    """The words of a list in `english.jsonl`."""
    return _lists()[name]


@lru_cache(maxsize=1)
def _lists() -> dict[str, frozenset[str]]:
    lines = read_lines(Path(__file__).parent / "english.jsonl")
    return {line["list"]: frozenset(line["words"]) for _, line in lines}
