"""The page at `/`, and what it asks beside OpenAI's endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from lorary.bank.files import BankError
from lorary.base.prompts import Chat, chat_of
from lorary.errors import LoraryError
from lorary.serving import looking
from lorary.serving.access import body_of
from lorary.serving.bodies import parsed
from lorary.serving.engine import Engine
from lorary.serving.errors import RequestError

T = TypeVar("T")
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
"""Path → the file of the page and its type. They hold nothing of the composite, so they need no key."""
_HEADERS = {
    "content-security-policy": "default-src 'none'; connect-src 'self'; img-src data:; script-src 'self'; style-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class Turn(BaseModel):
    """A turn of a chat."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Annotated[str, Field(max_length=20)]
    content: Annotated[str, Field(max_length=100_000)]


class RouteBody(BaseModel):
    """A chat whose last question is to be explained."""

    model_config = ConfigDict(extra="forbid", strict=True)

    messages: Annotated[list[Turn], Field(min_length=1, max_length=1000)]

    @property
    def chat(self) -> Chat:
        """The turns. Raises RequestError where they do not end with a question."""
        try:
            return chat_of([turn.model_dump() for turn in self.messages])
        except LoraryError as error:
            raise RequestError(400, str(error)[:400], "invalid_value", "messages") from None


class TokensBody(RouteBody):
    """A chat, an answer to it, and the memories that gave it, by their weights."""

    answer: Annotated[str, Field(max_length=100_000)]
    memories: Annotated[dict[str, Annotated[float, Field(allow_inf_nan=False)]], Field(max_length=100)] = {}


def page_routes(engine: Engine, *, learns: bool) -> APIRouter:
    """The page's endpoints.

    Args:
        learns: whether facts can be told and forgotten.
    """
    router = APIRouter()
    for path in FILES:
        router.add_api_route(path, _file, methods=["GET"])

    async def looked(work: Callable[[], T]) -> T:
        try:
            return await asyncio.wrap_future(engine.change(work))
        except RequestError:
            raise
        except BankError as error:
            raise RequestError(404, str(error)[:400], "bank") from None
        except LoraryError as error:
            raise RequestError(400, str(error)[:400], "invalid_request") from None

    @router.get("/look/bank")
    async def bank() -> dict[str, Any]:
        return {**await looked(lambda: looking.bank_of(engine.model)), "learns": learns}

    @router.get("/look/bank/{name}")
    async def memory(name: str) -> dict[str, Any]:
        return await looked(lambda: looking.facts_of(engine.model, name))

    @router.post("/look/route")
    async def route(request: Request) -> dict[str, Any]:
        chat = parsed(RouteBody, await body_of(request, engine.limits.body_bytes)).chat
        return await looked(lambda: looking.explained(engine.model, chat))

    @router.post("/look/tokens")
    async def tokens(request: Request) -> dict[str, Any]:
        body = parsed(TokensBody, await body_of(request, engine.limits.body_bytes))
        chat = body.chat
        return await looked(lambda: looking.tokens_of(engine.model, chat, body.answer, body.memories))

    return router


async def _file(request: Request) -> Response:
    name, kind = FILES[request.scope["path"]]
    content = (files("lorary.serving.page") / name).read_bytes()
    return Response(content, media_type=f"{kind}; charset=utf-8", headers=_HEADERS)
