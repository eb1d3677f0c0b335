"""Relaying: an engine's reply goes on to the client with the route, within the limits, and is counted."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from lorary.serving.errors import RequestError
from lorary.serving.limits import Limits
from lorary.serving.metrics import Metrics

_LENGTHS = ("max_tokens", "max_completion_tokens")


class Relayed(StreamingResponse):
    """A stream that calls `ended` once it is sent, or is not to be sent any more."""

    ended: Callable[[], None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.ended()


class Relay:
    """One request on its way through the engine.

    Args:
        told: the route, as the field `lorary` of the reply.
    """

    def __init__(self, limits: Limits, metrics: Metrics, told: Mapping[str, Any]) -> None:
        self.limits, self.metrics, self.told = limits, metrics, told
        self.begun, self._first = time.monotonic(), True

    @property
    def left(self) -> float:
        """Seconds that it may still take."""
        return self.begun + self.limits.seconds - time.monotonic()

    def whole(self, content: bytes, reply: httpx.Response) -> bytes:
        """A reply's body with the route; what is no JSON object, or an error, is left as it is."""
        try:
            answer = json.loads(content)
        except ValueError:
            return content
        if not isinstance(answer, dict) or reply.is_error:
            return content
        self._count(answer)
        return json.dumps({**answer, "lorary": self.told}, ensure_ascii=False).encode()

    def _count(self, answer: Mapping[str, Any]) -> None:
        """Counts the tokens that the engine tells of, which of a stream it does at the end where it is asked to."""
        usage = answer.get("usage")
        for name, counter in (
            ("prompt_tokens", self.metrics.prompt_tokens),
            ("completion_tokens", self.metrics.tokens),
        ):
            if isinstance(usage, dict) and isinstance(count := usage.get(name), int) and count > 0:
                counter.inc(count)

    async def stream(self, reply: httpx.Response) -> AsyncIterator[bytes]:
        """An engine's stream, whose first event tells the route. The engine is let go where the client leaves, or where it
        takes too long."""
        rest, contents = b"", aiter(reply.aiter_bytes())
        try:
            while True:
                try:
                    content = await asyncio.wait_for(anext(contents), max(self.left, 0.0))
                except StopAsyncIteration:
                    break
                # By line feeds alone: other letters that end lines may stand in an answer.
                *lines, rest = (rest + content).split(b"\n")
                for line in lines:
                    yield self._line(line, reply) + b"\n"
            yield rest
        except (TimeoutError, httpx.TimeoutException):
            yield _event(
                RequestError(504, f"no whole answer within {self.limits.seconds:g} s; ask for less", "timeout")
            )
        except httpx.HTTPError:
            yield _event(RequestError(502, "the engine broke off its answer", "upstream"))
        finally:
            await reply.aclose()

    def _line(self, line: bytes, reply: httpx.Response) -> bytes:
        if not line.startswith(b"data: {"):
            return line
        content = line.removeprefix(b"data: ")
        if self._first:
            self._first = False
            self.metrics.first_token.observe(time.monotonic() - self.begun)
            return b"data: " + self.whole(content, reply)
        if b'"usage"' in content:
            self.whole(content, reply)
        return line


def _event(error: RequestError) -> bytes:
    return f"data: {json.dumps(error.body)}\n\n".encode()


def limited(body: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """The fields of a request that the limits change: how long its answer may be.

    Raises:
        RequestError: more choices than are given.
    """
    choices = body.get("n")
    if isinstance(choices, int) and choices > limits.choices:
        raise RequestError(400, f"n is {choices}; this server gives at most {limits.choices}", "invalid_value", "n")
    asked = {name: body[name] for name in _LENGTHS if body.get(name) is not None}
    if not asked:
        return {"max_tokens": min(limits.default_tokens, limits.answer_tokens)}
    return {name: min(n, limits.answer_tokens) if isinstance(n, int) else n for name, n in asked.items()}
