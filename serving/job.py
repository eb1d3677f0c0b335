"""Job: one request on its way through the engine, and the rows that write its choices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lorary.answering.passages import FoundPassage, Prompt
from lorary.base.prompts import Chat
from lorary.routing.policy import Route
from lorary.serving.errors import RequestError
from lorary.serving.row_route import Share
from lorary.serving.sampling import Sampling, Token
from lorary.serving.writer import Writer


@dataclass(frozen=True)
class Routed:
    """A job has its route: the first that is told of it."""

    route: Route
    passages: tuple[FoundPassage, ...]
    prompt_tokens: int


@dataclass(frozen=True)
class Piece:
    """What a choice goes on with.

    Args:
        count: tokens that it stands for, that which ends a turn among them.
        finished: "stop" or "length" with the last piece, else None.
        probability: with the last piece, how likely the choice was, a token on average (`likelihood.Likelihood`).
    """

    choice: int
    text: str
    tokens: tuple[Token, ...]
    count: int = 0
    finished: str | None = None
    probability: float | None = None


Event: TypeAlias = Routed | Piece | RequestError


@dataclass(eq=False, kw_only=True)
class Job:
    """What is asked.

    Args:
        chat: the turns; None where `ids` are given.
        ids: the tokens of the prompt; made of the chat when it is routed, because passages may stand in it.
        routing_text: what routes it.
        memory: the name of the memory that answers, "__base__" for the base alone; None lets the router decide.
        ignore_eos: whether an answer goes on past the token that would end it, as benchmarks ask.
        longest: tokens of the answer; None for as many as there is room for, up to the limit's default.
        tell: is called with each event, in the engine's thread.
        deadline: when it is given up, by `time.monotonic`.
    """

    chat: Chat | None = None
    ids: list[int] = field(default_factory=list)
    routing_text: str = ""
    memory: str | None = None
    choices: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    stops: tuple[str, ...] = ()
    longest: int | None = None
    ignore_eos: bool = False
    tell: Callable[[Event], None]
    deadline: float = math.inf
    begun: float = field(default_factory=time.monotonic, init=False)
    cancelled: bool = field(default=False, init=False)
    route: Route | None = field(default=None, init=False)
    shares: tuple[Share, ...] = field(default=(), init=False)
    passages: tuple[FoundPassage, ...] = field(default=(), init=False)
    prompt: Prompt | None = field(default=None, init=False)
    left: int = field(default=0, init=False)
    """Choices that are not finished."""
    done: bool = field(default=False, init=False)


class Row:
    """One choice of a job as the batch writes it."""

    def __init__(self, job: Job, choice: int, tokenizer: PreTrainedTokenizerBase) -> None:
        self.job, self.choice = job, choice
        self.answer: list[int] = []
        self.read: list[Tensor] = []  # what entered the split of each token that was read, in parts
        self.keeps = True  # whether a chat may go on from what it reads: not once a memory was forgotten meanwhile
        self.generator = job.sampling.generator(choice)
        self._writer = Writer(tokenizer, job.stops)
        self._untold: list[Token] = []
        self._sum, self._told = 0.0, 0

    def take(self, token: Token, ends: frozenset[int]) -> Piece | None:
        """What there is to tell once a token has come; None where its text is not sure yet."""
        job = self.job
        self.answer.append(token.id)
        self._sum += token.logprob
        ended = token.id in ends and not job.ignore_eos
        if not ended:
            self._untold.append(token)
        text = "" if ended else self._writer.add(token.id)
        stopped = ended or self._writer.stopped
        finished = "stop" if stopped else "length" if len(self.answer) >= (job.longest or 1) else None
        if finished and not self._writer.stopped:
            text += self._writer.end()
            finished = "stop" if self._writer.stopped else finished
        if not text and not finished:
            return None
        tokens, self._untold = tuple(self._untold), []
        probability = math.exp(self._sum / len(self.answer)) if finished else None
        count, self._told = len(self.answer) - self._told, len(self.answer)
        return Piece(self.choice, text, tokens, count, finished, probability)
