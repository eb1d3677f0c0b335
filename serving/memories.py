"""The endpoints of memories: who has the key may let them join, change and leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from lorary.bank.documents import Passage, passages_of
from lorary.bank.facts import NAME, NAME_RULE, Fact, parse_fact
from lorary.bank.files import BankError
from lorary.bank.memory import Memory
from lorary.errors import LoraryError
from lorary.serving.access import body_of
from lorary.serving.bodies import parsed
from lorary.serving.engine import Engine
from lorary.serving.errors import RequestError
from lorary.serving.keeping import Keeper
from lorary.serving.learning import Learner
from lorary.serving.limits import Limits

T = TypeVar("T")


class Document(BaseModel):
    """A text, and what it is called."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: Annotated[str, Field(min_length=1, max_length=200)]
    text: str


class MemoryBody(BaseModel):
    """What a memory is to hold.

    Args:
        name: of the memory.
        adapter: a stock PEFT LoRA folder on the server's machine.
        facts: as lines of a facts file.
        documents: texts that it holds.
        same_base: the adapter names its base otherwise, but it is this one.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str | None = None
    adapter: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    facts: list[dict[str, Any]] = []
    documents: list[Document] = []
    same_base: bool = False

    def arguments(self, name: str) -> dict[str, Any]:
        """What `Keeper` takes. Raises LoraryError for facts or documents that cannot be used."""
        facts: list[Fact] = [parse_fact(fact, topic=name, where=f"facts.{n}") for n, fact in enumerate(self.facts)]
        passages: list[Passage] = [
            passage for document in self.documents for passage in passages_of(document.text, document.source)
        ]
        return {"adapter": self.adapter, "facts": facts, "documents": passages, "same_base": self.same_base}


class FactsBody(BaseModel):
    """Facts to remember, as lines of a facts file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    facts: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=1000)]


def learning_routes(learner: Learner | None, limits: Limits, *, may_change: bool) -> APIRouter:
    """The endpoints of facts: they are written into the bank by jobs, which take a while.

    Args:
        learner: None where the server was given no bank to write to.
        may_change: whether the server has a key.
    """
    router = APIRouter()

    def learning() -> Learner:
        _check(may_change)
        if learner is None:
            raise RequestError(403, "this server writes no facts; start it with --bank", "no_bank")
        return learner

    @router.post("/memories/{name}/facts", status_code=202)
    async def remember(request: Request, name: str) -> dict[str, Any]:
        learner = learning()
        lines = parsed(FactsBody, await body_of(request, limits.body_bytes)).facts
        _check_name(name)
        try:
            facts = [parse_fact(line, topic=name, where=f"facts.{place}") for place, line in enumerate(lines)]
        except LoraryError as error:
            raise RequestError(400, str(error)[:1000], "invalid_memory", "facts") from None
        return learner.remember(name, facts).to_json()

    @router.delete("/memories/{name}/facts/{number}", status_code=202)
    async def forget(name: str, number: str) -> dict[str, Any]:
        learner = learning()
        _check_name(name)
        if not number.isalnum():
            raise RequestError(400, "ids of facts are letters and digits; GET /look/bank/NAME shows them", "invalid_id")
        return learner.forget(name, [number]).to_json()

    @router.get("/jobs/{number}")
    async def job(number: str) -> dict[str, Any]:
        return learning().job(number).to_json()

    return router


def memory_routes(engine: Engine, keeper: Keeper, *, may_change: bool, from_bank: bool = False) -> APIRouter:
    """The endpoints.

    Args:
        may_change: whether the server has a key; without one nobody may change its memories over the network.
        from_bank: whether it takes its memories from a bank, which alone is then changed.
    """
    router = APIRouter()

    def check() -> None:
        _check(may_change)
        if from_bank:
            raise RequestError(
                409, "this server takes its memories from its bank; POST /memories/NAME/facts changes those", "bank"
            )

    async def changed(work: Callable[[], T]) -> T:
        try:
            return await asyncio.wrap_future(engine.change(work))
        except RequestError:
            raise
        except BankError as error:
            status = 404 if "has no memory" in str(error) else 409
            raise RequestError(status, str(error)[:1000], "bank") from None
        except (LoraryError, OSError) as error:
            raise RequestError(400, str(error)[:1000], "invalid_memory") from None

    async def body(request: Request) -> MemoryBody:
        check()
        return parsed(MemoryBody, await body_of(request, 16 * engine.limits.body_bytes))

    @router.get("/memories")
    async def memories() -> dict[str, Any]:
        return {"memories": await changed(lambda: [_told(memory) for memory in engine.model.router.bank])}

    @router.post("/memories", status_code=201)
    async def add(request: Request) -> dict[str, Any]:
        asked = await body(request)
        arguments = _arguments(asked, asked.name or "")
        return _told(await changed(lambda: keeper.add(asked.name or "", **arguments)))

    @router.put("/memories/{name}")
    async def update(request: Request, name: str) -> dict[str, Any]:
        asked = await body(request)
        if asked.name not in (None, name):
            raise RequestError(
                400, "the body names another memory than the path; leave it out", "invalid_memory", "name"
            )
        arguments = _arguments(asked, name)
        return _told(await changed(lambda: keeper.update(name, **arguments)))

    @router.delete("/memories/{name}")
    async def remove(name: str) -> dict[str, Any]:
        check()
        await changed(lambda: keeper.remove(name))
        return {"name": name, "deleted": True}

    return router


def _check(may_change: bool) -> None:
    if not may_change:
        raise RequestError(403, "memories change by those who have the key; start the server with --api-key", "no_key")


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise RequestError(400, f"{name[:80]!r} cannot name a memory; a name is {NAME_RULE}", "invalid_memory", "name")


def _arguments(body: MemoryBody, name: str) -> dict[str, Any]:
    _check_name(name)
    try:
        return body.arguments(name)
    except LoraryError as error:
        raise RequestError(400, str(error)[:1000], "invalid_memory") from None


def _told(memory: Memory) -> dict[str, Any]:
    return {"name": memory.name, "facts": len(memory.facts), "passages": len(memory.documents)}
