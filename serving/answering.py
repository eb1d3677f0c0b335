"""Answering: a body becomes jobs; what the engine tells of them becomes a reply, at once or as a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from lorary.base.prompts import chat_of, conversation_text, first_tokens, inner_ids
from lorary.errors import LoraryError
from lorary.serving.asking import ask_field
from lorary.serving.bodies import Body, ChatBody, CompletionBody
from lorary.serving.engine import Engine
from lorary.serving.errors import RequestError
from lorary.serving.job import Event, Job, Piece, Routed
from lorary.serving.replies import ChatShape, CompletionShape, Shape, headers, route_field, usage

_reader = ThreadPoolExecutor(1, thread_name_prefix="lorary-reader")
"""Makes tokens of prompts, so that a long one does not hold the others' replies."""


class Gone(Exception):
    """The client has left."""


class Telling:
    """The events of a request's jobs, on the side of asyncio.

    Attributes:
        jobs: in order of their prompts.
        early: pieces that came before all jobs had their routes.
    """

    def __init__(self, engine: Engine, request: Request) -> None:
        self.engine, self.request = engine, request
        self.jobs: list[Job] = []
        self.early: list[tuple[int, Event]] = []
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event] | None] = asyncio.Queue()
        self._gone: asyncio.Task[None] | None = None

    def teller(self, number: int) -> Any:
        """What a job is to call with each of its events, from any thread."""

        def tell(event: Event) -> None:
            with suppress(RuntimeError):  # the server's loop has ended, and with it whoever waited
                self._loop.call_soon_threadsafe(self._events.put_nowait, (number, event))

        return tell

    def submit(self, jobs: Sequence[Job]) -> None:
        """Hands jobs to the engine. Raises RequestError where it takes no more; then none is left there."""
        try:
            for job in jobs:
                self.engine.submit(job)
                self.jobs.append(job)
        except RequestError:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Lets the engine forget all jobs, and stops waiting for the client to leave."""
        for job in self.jobs:
            self.engine.cancel(job)
        if self._gone is not None:
            self._gone.cancel()

    async def next(self) -> tuple[int, Event]:
        """(the number of a job, what it was told next).

        Raises:
            RequestError: that a job was told.
            Gone: the client has left.
        """
        if self._gone is None:
            self._gone = asyncio.create_task(self._wait_until_gone())
        item = await self._events.get()
        if item is None:
            raise Gone
        if isinstance(item[1], RequestError):
            raise item[1]
        return item

    async def _wait_until_gone(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass
        self._events.put_nowait(None)


async def answer_chat(engine: Engine, request: Request, body: ChatBody) -> Response:
    """The reply to a request of `/v1/chat/completions`."""
    shape = ChatShape(engine.model.tokenizer, body.model, bool(body.logprobs))
    if body.top_logprobs and not body.logprobs:
        raise RequestError(400, "top_logprobs needs logprobs: true", "invalid_value", "top_logprobs")
    try:
        chat = chat_of(body.chat)
    except LoraryError as error:
        raise RequestError(400, _short(error), "invalid_value", "messages") from None
    options = {"top_logprobs": body.top_logprobs or 0, "longest": body.longest}
    return await _answer(engine, request, body, shape, [{"chat": chat}], options)


async def answer_completion(engine: Engine, request: Request, body: CompletionBody) -> Response:
    """The reply to a request of `/v1/completions`."""
    shape = CompletionShape(engine.model.tokenizer, body.model, body.logprobs is not None)
    read = asyncio.get_running_loop().run_in_executor
    if len(body.prompts) * (body.n or 1) > engine.limits.rows + engine.limits.waiting:
        raise RequestError(400, f"{len(body.prompts)} prompts are too many at once", "invalid_value", "prompt")
    prompts = [await read(_reader, _read, engine, prompt) for prompt in body.prompts]
    options = {"top_logprobs": body.logprobs or 0, "longest": body.max_tokens}
    return await _answer(engine, request, body, shape, prompts, options)


def _short(error: LoraryError) -> str:
    return str(error)[:400]


def _read(engine: Engine, prompt: str | list[int]) -> dict[str, Any]:
    """The tokens of a prompt, and the question in it that routes it."""
    tokenizer = engine.model.tokenizer
    if isinstance(prompt, str):
        ids = [*first_tokens(tokenizer), *inner_ids(tokenizer, prompt)]
    else:
        ids = prompt
        if any(not 0 <= token < len(tokenizer) for token in ids):
            message = f"prompt holds a token that is none; tokens are 0 to {len(tokenizer) - 1}"
            raise RequestError(400, message, "invalid_value", "prompt")
    if not ids:
        raise RequestError(400, "the prompt is empty; give one that asks something", "invalid_value", "prompt")
    return {"ids": ids, "routing_text": conversation_text(tokenizer, str(tokenizer.decode(ids)))}


async def _answer(
    engine: Engine,
    request: Request,
    body: Body,
    shape: Shape,
    prompts: Sequence[dict[str, Any]],
    options: dict[str, Any],
) -> Response:
    telling, vocabulary = Telling(engine, request), len(engine.model.tokenizer)
    jobs = [
        body.job(engine.limits, vocabulary, telling.teller(number), **options, **prompt)
        for number, prompt in enumerate(prompts)
    ]
    telling.submit(jobs)
    streams = False
    try:
        routes = await _routes(telling)
        headed = headers(routes[0].route)
        if body.stream:
            streams = True
            with_usage = body.stream_options is not None and body.stream_options.include_usage
            content = _stream(telling, shape, routes, with_usage)
            return StreamingResponse(content, media_type="text/event-stream", headers={**headed, **_UNBUFFERED})
        return JSONResponse(await _whole(telling, shape, routes), headers=headed)
    except Gone:
        return Response(status_code=499)
    finally:
        if not streams:
            telling.cancel()


_UNBUFFERED = {"cache-control": "no-cache", "x-accel-buffering": "no"}


async def _routes(telling: Telling) -> list[Routed]:
    """The route of each job, which comes before any piece of it."""
    routes: dict[int, Routed] = {}
    while len(routes) < len(telling.jobs):
        number, event = await telling.next()
        if isinstance(event, Routed):
            routes[number] = event
        else:
            telling.early.append((number, event))
    return [routes[number] for number in range(len(routes))]


async def _pieces(telling: Telling) -> AsyncGenerator[tuple[int, int, Piece], None]:
    """(job, choice of the whole reply, piece), as they come, until all choices are finished."""
    left = sum(job.choices for job in telling.jobs)
    while left:
        number, event = telling.early.pop(0) if telling.early else await telling.next()
        assert isinstance(event, Piece)
        left -= event.finished is not None
        yield number, number * telling.jobs[0].choices + event.choice, event


async def _whole(telling: Telling, shape: Any, routes: Sequence[Routed]) -> dict[str, Any]:
    choices: dict[int, list[Piece]] = {}
    written = 0
    async for _, index, piece in _pieces(telling):
        choices.setdefault(index, []).append(piece)
        written += piece.count
    counts = usage(sum(routed.prompt_tokens for routed in routes), written)
    told = _told(telling, routes, {index: own[-1].probability for index, own in choices.items()})
    texts = [piece.text for piece in choices[0]]
    if more := await ask_field(telling.engine, telling.jobs, texts, choices[0][-1].probability):
        told |= more
    return shape.whole([shape.choice(index, own) for index, own in sorted(choices.items())], counts, told)


def _told(telling: Telling, routes: Sequence[Routed], probabilities: dict[int, float | None]) -> Any:
    """The field `lorary`: the route of the prompt with the probability of its choices; of several prompts, one each."""
    each, fields = telling.jobs[0].choices, []
    for number, routed in enumerate(routes):
        own = [probabilities.get(number * each + choice) for choice in range(each)]
        field = route_field(routed, own[0])
        fields.append(field | {"probabilities": own} if each > 1 else field)
    return fields[0] if len(fields) == 1 else fields


async def _stream(telling: Telling, shape: Any, routes: Sequence[Routed], with_usage: bool) -> AsyncIterator[str]:
    """The reply as server-sent events."""
    nothing = {"usage": None} if with_usage else {}
    lengths: dict[int, int] = {}
    texts, written = [], 0
    try:
        first = {"lorary": _told(telling, routes, {})}
        async with aclosing(_pieces(telling)) as pieces:
            async for number, index, piece in pieces:
                if index not in lengths and (opening := shape.opening(index)) is not None:
                    yield _event(shape.part([opening], **nothing, **first))
                    first = {}
                texts.append(piece.text)
                more = first
                if piece.finished:
                    asked = await ask_field(telling.engine, telling.jobs, texts, piece.probability)
                    more = {"lorary": route_field(routes[number], piece.probability) | asked}
                yield _event(shape.part([shape.delta(index, piece, lengths.get(index, 0))], **nothing, **more))
                first = {}
                lengths[index] = lengths.get(index, 0) + len(piece.text)
                written += piece.count
        if with_usage:
            counts = usage(sum(routed.prompt_tokens for routed in routes), written)
            yield _event(shape.part([], usage=counts))
        yield "data: [DONE]\n\n"
    except RequestError as error:
        yield _event(error.body)
    except Gone:
        return
    finally:
        telling.cancel()


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
