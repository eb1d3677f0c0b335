"""Limits: what one server takes at once, and of one request."""

from __future__ import annotations

from dataclasses import dataclass

from lorary.errors import LoraryError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server takes.

    Args:
        rows: answers that are written at once; each choice of a request is one
        waiting: requests that may wait for a row; the next gets 429
        prompt_tokens: tokens of the longest prompt; the base's context, if that is shorter
        answer_tokens: tokens of the longest answer
        default_tokens: tokens of an answer whose request says nothing
        choices: of one request (`n`)
        seconds: that a request may take, waiting included; then it gets 504
        body_bytes: of the longest request
        pass_tokens: prompt tokens that are read between two steps of the answers in progress
        prefix_mib: MiB of the last conversations that are kept, so that a chat that goes on reads its new turn alone; 0: none

    Raises:
        LoraryError: a limit below 1.
    """

    rows: int = 16
    waiting: int = 64
    prompt_tokens: int = 4096
    answer_tokens: int = 1024
    default_tokens: int = 256
    choices: int = 8
    seconds: float = 300.0
    body_bytes: int = 1_048_576
    pass_tokens: int = 512
    prefix_mib: float = 256.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0 or (value == 0 and name != "prefix_mib"):
                raise LoraryError(f"--{name.replace('_', '-')} is {value}; give more than 0")
