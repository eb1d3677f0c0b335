"""Upstream: Lorary as the router in front of an engine that holds the adapters (vLLM, SGLang, llama.cpp's server).

It decides which memory a question needs, names that in the engine's own words, and hands the engine's reply back with the route.
The base is not loaded here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import torch
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from lorary.answering.passages import FoundPassage, nearest_passages, question_with
from lorary.base.prompts import chat_of, chat_question, last_user
from lorary.errors import LoraryError
from lorary.routing.policy import Decision, Route, by_caller, named_weights
from lorary.routing.router import Router
from lorary.serving.access import Access, body_of
from lorary.serving.app import model_entry, tell_errors
from lorary.serving.bodies import MODEL, memory_of
from lorary.serving.errors import RequestError
from lorary.serving.limits import Limits
from lorary.serving.metrics import Metrics
from lorary.serving.relaying import Relay, Relayed, limited
from lorary.serving.replies import headers, route_json
from lorary.serving.routing import BASE

Naming = Mapping[str, Mapping[str, Any]]
"""Memory, or "__base__" → the fields by which the engine knows it, such as `{"model": "boat"}`."""
_PATHS = ("/v1/chat/completions", "/v1/completions")


def read_naming(path: str | Path, memories: Sequence[str]) -> Naming:
    """How the engine names each memory, from a JSON file: a text is the engine's `model`, an object fields of its requests.

    Raises:
        LoraryError: no such file, or one that does not name each memory and the base.
    """
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoraryError(f"{path} cannot be read as JSON: {error}; {_FORM}") from error
    wanted = {*memories, BASE}
    if not isinstance(told, dict) or not all(isinstance(value, (str, dict)) for value in told.values()):
        raise LoraryError(f"{path} holds something else than names; {_FORM}")
    if missing := sorted(wanted - told.keys()):
        raise LoraryError(f"{path} does not name {', '.join(missing[:5])}; {_FORM}")
    if unknown := sorted(told.keys() - wanted):
        raise LoraryError(f"{path} names {unknown[0]!r}, which is no memory of the composite; leave it out")
    return {name: {"model": value} if isinstance(value, str) else value for name, value in told.items()}


_FORM = (
    'give an object of all memories and "__base__", such as {"boat": "boat", "__base__": "BASE"} for vLLM, or {"boat": {"lora": '
    '[{"id": 0, "scale": 1}]}, "__base__": {"lora": [{"id": 0, "scale": 0}]}} for llama.cpp'
)


class Upstream:
    """Routes requests to an engine.

    Args:
        router: whose gate reads no hidden state, since the base runs elsewhere.
        url: of the engine, without `/v1`.
        key: that the engine wants.

    Attributes:
        open: requests that are on their way.

    Raises:
        LoraryError: a gate that reads the base's hidden state.
    """

    def __init__(self, router: Router, naming: Naming, url: str, limits: Limits, key: str | None = None) -> None:
        if "hidden" in router.gate.features:
            raise LoraryError(
                "the gate reads the base's hidden state, and the base runs in the engine; train a router without it "
                "(`lorary train-router BANK --out COMPOSITE`)"
            )
        self.router, self.naming, self.limits, self.metrics, self.open = router, naming, limits, Metrics(), 0
        sent = {"authorization": f"Bearer {key}"} if key else {}
        self.client = httpx.AsyncClient(base_url=url.rstrip("/"), headers=sent, timeout=limits.seconds)
        self._decider = ThreadPoolExecutor(1, thread_name_prefix="lorary-router")

    async def answer(self, request: Request) -> Response:
        """The engine's reply to a request, under the memory that it needs. Raises RequestError where too many are on their
        way."""
        body = _read(await body_of(request, self.limits.body_bytes))
        if self.open >= self.limits.rows + self.limits.waiting:
            self.metrics.refused.inc()
            raise RequestError(429, "too many requests wait; ask again later", "too_many_requests")
        self._count(1)
        streams = False
        try:
            response = await self._answered(request.scope["path"], body)
            if streams := isinstance(response, Relayed):
                response.ended = partial(self._count, -1)
            return response
        except (TimeoutError, httpx.TimeoutException) as error:
            raise RequestError(504, "the engine took too long; ask for fewer tokens, or later", "timeout") from error
        except httpx.HTTPError as error:
            raise RequestError(502, "the engine cannot be reached; ask who runs this server", "upstream") from error
        finally:
            if not streams:
                self._count(-1)

    def _count(self, change: int) -> None:
        self.open += change
        self.metrics.running.set(self.open)

    async def _answered(self, path: str, body: dict[str, Any]) -> Response:
        routed = asyncio.get_running_loop().run_in_executor(self._decider, self._routed, body)
        route, passages, sent = await routed
        self.metrics.routed(route, 0)
        told = {**route_json(route), "passages": [asdict(passage) for passage in passages]}
        relay = Relay(self.limits, self.metrics, told)
        asked = self.client.build_request(
            "POST", path, content=json.dumps(sent), headers={"content-type": "application/json"}
        )
        async with asyncio.timeout(relay.left):
            reply = await self.client.send(asked, stream=bool(body.get("stream")))
            kind = reply.headers.get("content-type", "application/json")
            if body.get("stream") and kind.startswith("text/event-stream"):
                return Relayed(relay.stream(reply), reply.status_code, headers(route), kind)
            content = await reply.aread()
        await reply.aclose()
        return Response(relay.whole(content, reply), reply.status_code, headers(route), kind)

    @torch.no_grad()
    def _routed(self, body: dict[str, Any]) -> tuple[Route, Sequence[FoundPassage], dict[str, Any]]:
        """(the route of a request, the passages put before its question, the request as the engine is to read it)."""
        memory, sent = memory_of(str(body["model"])), {**body, **limited(body, self.limits)}
        if memory not in (None, BASE, *self.router.bank.names):
            raise RequestError(404, f"no memory is called {memory[:80]!r}; /v1/models lists them", "model_not_found")  # type: ignore[index]
        question, passages = self._question(body, sent, 0 if memory == BASE else self.router.policy.passages)
        route = self._decision(memory, question).routes(self.router.bank.names)[0]
        named = {key: value for key, value in sent.items() if key != "model"}
        return route, passages, {**named, **self.naming[route.memories[0] if route.memories else BASE]}

    def _question(
        self, body: Mapping[str, Any], sent: dict[str, Any], wanted: int
    ) -> tuple[str, Sequence[FoundPassage]]:
        """(what routes a request, the passages that were put into the request that is sent)."""
        if "messages" not in body:
            if not isinstance(body.get("prompt"), str):
                raise RequestError(
                    400, "prompt must be a text, since its question routes it", "invalid_value", "prompt"
                )
            return str(body["prompt"]), ()
        if not isinstance(body["messages"], list):
            raise RequestError(400, "messages must be a list of turns", "invalid_value", "messages")
        try:
            chat = chat_of(body["messages"])
            question = chat_question(chat)
        except (LoraryError, TypeError, KeyError, AttributeError) as error:
            raise RequestError(400, f"messages is no chat: {error}"[:400], "invalid_value", "messages") from None
        if not wanted:
            return question, ()
        try:
            passages = nearest_passages(self.router, [question], wanted)[0]
        except LoraryError as error:
            raise RequestError(400, str(error)[:400], "passages") from None
        place = last_user(chat)
        text = question_with("\n".join(passage.text for passage in passages), chat[place]["content"])
        sent["messages"] = [*chat[:place], chat[place] | {"content": text}, *chat[place + 1 :]]
        return question, passages

    def _decision(self, memory: str | None, question: str) -> Decision:
        if memory is not None:
            return by_caller(named_weights([memory], self.router.bank.names))
        return self.router.decide(self.router.features([question]))


def _read(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content, parse_constant=_no_number)
    except ValueError:
        raise RequestError(400, "the body is no JSON", "invalid_json") from None
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise RequestError(400, f"the body must be an object with 'model', such as {MODEL!r}", "invalid_value", "model")
    return body


def _no_number(name: str) -> float:
    raise RequestError(400, f"the body holds {name}, which is no number of JSON", "invalid_json")


def make_upstream_app(upstream: Upstream, *, api_key: str | None = None, local: bool = True) -> FastAPI:
    """The application of a router in front of an engine; its arguments are those of `app.make_app`."""

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        yield
        await upstream.client.aclose()

    metrics = upstream.metrics
    app = FastAPI(title="Lorary", lifespan=running, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Access, api_key=api_key, local=local, metrics=metrics)  # type: ignore[arg-type]

    tell_errors(app)
    for path in _PATHS:
        app.add_api_route(path, upstream.answer, methods=["POST"])

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        names = [MODEL, *(f"{MODEL}:{name}" for name in upstream.naming)]
        return {"object": "list", "data": [model_entry(name) for name in names]}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    async def told() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app
