"""Bodies: what a request says, as OpenAI's API has it; each becomes a job for the engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lorary.serving.errors import RequestError
from lorary.serving.job import Job
from lorary.serving.limits import Limits
from lorary.serving.sampling import Sampling

MODEL = "lorary"
"""The name under which the router decides; `lorary:NAME` names a memory, `lorary:__base__` the base."""
_COLDEST = 1e-4
"""A temperature below it takes the likeliest token, since logits divided by it would be infinite."""
Text = Annotated[str, Field(max_length=1_000_000)]


def memory_of(model: str) -> str | None:
    """The memory that a model's name names; None for the router's choice. Raises RequestError for another name."""
    if model == MODEL:
        return None
    if not model.startswith(f"{MODEL}:"):
        raise RequestError(
            404,
            f"no model is called {model[:80]!r}; {MODEL!r} routes, '{MODEL}:NAME' names a memory, /v1/models lists them",
            "model_not_found",
            "model",
        )
    return model.removeprefix(f"{MODEL}:")


class StreamOptions(BaseModel):
    """What a stream holds beside the answer."""

    include_usage: bool = False


class Body(BaseModel):
    """What both endpoints take. Fields of OpenAI's that change nothing here are let by; those that would are refused."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: Annotated[str, Field(max_length=200)]
    n: Annotated[int, Field(ge=1)] | None = None
    stop: Annotated[str, Field(max_length=200)] | Annotated[list[str], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool = False

    @property
    def memory(self) -> str | None:
        """The memory that the model's name names; None for the router's choice."""
        return memory_of(self.model)

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end an answer."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(stop for stop in stops if stop)

    def sampling(self, vocabulary: int, top_logprobs: int) -> Sampling:
        """How the answer's tokens are chosen."""
        bias = {}
        for token, value in (self.logit_bias or {}).items():
            if not token.isascii() or not token.isdigit() or int(token) >= vocabulary:
                message = f"logit_bias names {token[:40]!r}; a token is a number below {vocabulary}"
                raise RequestError(400, message, "invalid_value", "logit_bias")
            bias[int(token)] = value
        return Sampling(
            temperature=0.0 if (self.temperature or 0.0) < _COLDEST else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=bias,
            top_logprobs=top_logprobs,
        )

    def job(
        self, limits: Limits, vocabulary: int, tell: Any, *, top_logprobs: int, longest: int | None, **prompt: Any
    ) -> Job:
        """The job that it asks for.

        Args:
            prompt: `chat`, or `ids` and `routing_text`.
        """
        choices = self.n or 1
        if choices > limits.choices:
            raise RequestError(400, f"n is {choices}; this server gives at most {limits.choices}", "invalid_value", "n")
        return Job(
            memory=self.memory,
            choices=choices,
            sampling=self.sampling(vocabulary, top_logprobs),
            stops=self.stops,
            longest=longest,
            ignore_eos=self.ignore_eos,
            tell=tell,
            deadline=time.monotonic() + limits.seconds,
            **prompt,
        )


class Message(BaseModel):
    """A turn of a chat; what else a client writes of it goes to the chat template."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[dict[str, Any]] | None = None

    def turn(self) -> dict[str, Any]:
        """The turn as a chat template takes it."""
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": self.content}


class ChatBody(Body):
    """What `/v1/chat/completions` takes."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1024)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def longest(self) -> int | None:
        """Tokens of the longest answer."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def chat(self) -> list[dict[str, Any]]:
        """The turns."""
        return [message.turn() for message in self.messages]


class CompletionBody(Body):
    """What `/v1/completions` takes."""

    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1)]
        | Annotated[list[int], Field(min_length=1)]
        | Annotated[list[list[int]], Field(min_length=1)]
    )
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """Each prompt, as a text or as tokens."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return self.prompt  # type: ignore[return-value]


_NOT_GIVEN = {
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "response_format": (None, {"type": "text"}),
    "echo": (None, False),
    "suffix": (None, ""),
    "best_of": (None, 1),
    "audio": (None,),
    "modalities": (None, ["text"]),
}
"""Fields that would change an answer, which this server cannot do → the values that ask for nothing."""
B = TypeVar("B", bound=BaseModel)


def parsed(kind: type[B], content: bytes) -> B:
    """The body of a request.

    Raises:
        RequestError: it is not JSON, or a field is missing, wrong or one that this server cannot do.
    """
    try:
        body = kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"][:4] if not str(part).startswith("function-"))[:100]
        message = f"{where}: {first['msg']}" if where else first["msg"]
        raise RequestError(400, message[:400], "invalid_request", where or None) from None
    for name, harmless in _NOT_GIVEN.items():
        value = getattr(body, name, None)
        if value not in harmless:
            raise RequestError(400, f"this server does not take {name!r}; leave it out", "unsupported_parameter", name)
    return body
