"""The application: OpenAI's endpoints, health, metrics and the memories, over one engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lorary.serving.access import Access, body_of
from lorary.serving.answering import answer_chat, answer_completion
from lorary.serving.bodies import MODEL, ChatBody, CompletionBody, parsed
from lorary.serving.engine import Engine
from lorary.serving.errors import RequestError
from lorary.serving.keeping import Keeper
from lorary.serving.learning import Learner
from lorary.serving.memories import learning_routes, memory_routes
from lorary.serving.pages import page_routes
from lorary.serving.routing import BASE


def make_app(
    engine: Engine, keeper: Keeper, learner: Learner | None = None, *, api_key: str | None = None, local: bool = True
) -> FastAPI:
    """The application of a server.

    Args:
        keeper: lets memories join and leave.
        learner: writes facts into the bank; None where they are not to be written.
        api_key: that requests must bring.
        local: whether it listens for this machine alone.
    """

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        if learner is not None:
            learner.close()
        engine.stop()

    app = FastAPI(title="Lorary", lifespan=running, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Access, api_key=api_key, local=local, metrics=engine.metrics)  # type: ignore[arg-type]
    tell_errors(app)
    _openai_routes(app, engine)
    _upkeep_routes(app, engine)
    app.include_router(memory_routes(engine, keeper, may_change=api_key is not None, from_bank=learner is not None))
    app.include_router(learning_routes(learner, engine.limits, may_change=api_key is not None))
    app.include_router(page_routes(engine, learns=learner is not None and api_key is not None))
    return app


def tell_errors(app: FastAPI) -> None:
    """Lets an application tell every error in OpenAI's shape."""
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _failed)


async def _failed(_: Request, error: Exception) -> Response:
    return JSONResponse(RequestError(500, "the server failed at this request; ask who runs it").body, 500)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {"retry-after": "1"} if error.status == 429 else None
    return JSONResponse(error.body, error.status, headers=headers)


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} does not hold here, or nothing is here; docs/serving.md lists the endpoints"
    return JSONResponse(RequestError(error.status_code, message, "not_found").body, error.status_code, error.headers)


def _openai_routes(app: FastAPI, engine: Engine) -> None:
    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        body = parsed(ChatBody, await body_of(request, engine.limits.body_bytes))
        return await answer_chat(engine, request, body)

    @app.post("/v1/completions")
    async def complete(request: Request) -> Response:
        body = parsed(CompletionBody, await body_of(request, engine.limits.body_bytes))
        return await answer_completion(engine, request, body)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model_entry(name) for name in _names(engine)]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        if name not in _names(engine):
            raise RequestError(404, "no model has that name; /v1/models lists them", "model_not_found", "model")
        return model_entry(name)


def _names(engine: Engine) -> list[str]:
    return [MODEL, *(f"{MODEL}:{name}" for name in (*engine.memories, BASE))]


def model_entry(name: str) -> dict[str, Any]:
    """A model as /v1/models lists it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "lorary"}


def _upkeep_routes(app: FastAPI, engine: Engine) -> None:
    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": engine.state}, 200 if engine.state == "ok" else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(engine.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
