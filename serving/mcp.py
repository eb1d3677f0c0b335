"""Composite → tools for agents, by the Model Context Protocol: recall, and where it is allowed remember and forget."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar, runtime_checkable

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from lorary.answering.answers import answer
from lorary.bank.bank import MemoryBank
from lorary.bank.memory import Memory
from lorary.base.loading import Base
from lorary.errors import LoraryError, one_line
from lorary.model.composite import assemble, load_router
from lorary.model.modeling import LoraryForCausalLM
from lorary.model.untrained import is_bare_bank
from lorary.routing import policy
from lorary.routing.explanation import Explanation, explain
from lorary.routing.pooling import pooled_prompts
from lorary.serving.following import settled, stamp_of
from lorary.serving.mcp_replies import (
    Forgot,
    GivenFact,
    HeldFact,
    HeldMemory,
    Listed,
    Passage,
    Recalled,
    Remembered,
    Route,
    Which,
)

INSTRUCTIONS = (
    "Private facts are held by memories. `recall` answers a question and says which memory knew; where the outcome is 'base', "
    "no memory knew, and the answer is the small base model's own. `right` tells how likely an answer is to be right. Ask "
    "one question at a time, and name in it what it is about."
)
Question = Annotated[str, Field(min_length=1, max_length=8000, description="one question that names what it is about")]
Name = Annotated[str, Field(min_length=1, max_length=64, description="name of a memory, as list_memories shows it")]
T = TypeVar("T")
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)


@runtime_checkable
class Writer(Protocol):
    """What changes the bank on disk. `base` is the loaded base, whose weights stay as they are."""

    def remember(
        self, base: Base, memory: str | None, facts: list[dict[str, Any]], sentences: list[str]
    ) -> dict[str, Any]:
        """Writes facts and sentences; returns `changes` and `notes`."""

    def forget(self, base: Base, memory: str, facts: list[str] | None) -> dict[str, Any]:
        """Forgets a memory, or facts of it by their ids; returns what `Forgotten.to_json` does."""


@dataclass
class Loaded:
    """A composite that is asked, and loaded anew over the same base once its folder has changed.

    Args:
        folder: of the composite, or of a bank without a trained router.
        stamp: of the folder when the composite was read (`following.opened`).
    """

    folder: Path
    model: LoraryForCausalLM
    stamp: tuple[int, ...]

    def __post_init__(self) -> None:
        self._turn = threading.Lock()

    def ask(self, work: Callable[[LoraryForCausalLM], T]) -> T:
        """What `work` gives of the composite as the folder has it now; it is done again where another process changed the folder
        meanwhile, because memories are read from there when they are first used.
        """
        return settled(self.folder, lambda: work(self.current()))

    def current(self) -> LoraryForCausalLM:
        """The composite as the folder has it now: another process may have written there, such as `lorary serve`."""
        with self._turn:
            if (stamp := stamp_of(self.folder)) != self.stamp:
                self.reload()
                self.stamp = stamp
        return self.model

    def base(self) -> Base:
        """The base, with the name that the bank gives it."""
        bank = self.model.router.bank
        return Base(bank.base, bank.revision, self.model.base, self.model.tokenizer)

    def reload(self) -> None:
        """Takes up what the folder holds now; who asks meanwhile is answered by what was there before."""
        encoder, base, budget = self.model.router.get_encoder(), self.base(), self.model.factor_cache.budget
        if is_bare_bank(self.folder):
            self.model = assemble(MemoryBank.load(self.folder), base, encoder=encoder, memory_budget=budget)
            return
        router, config = load_router(self.folder)
        parts: dict[str, Any] = {"gate": router.gate, "config": config, "memory_budget": budget}
        self.model = assemble(router.bank, base, encoder=encoder, **parts)


def make_server(loaded: Loaded, writer: Writer | None, *, max_new_tokens: int = 64) -> MCPServer:
    """The server with its tools; those that change memories are there only with a writer."""
    server = MCPServer(
        "lorary", title="Lorary", version=version("lorary"), instructions=INSTRUCTIONS, log_level="WARNING"
    )
    _add_reading(server, loaded, max_new_tokens)
    if writer is not None:
        _add_writing(server, loaded, writer)
    return server


def _add_reading(server: MCPServer, loaded: Loaded, max_new_tokens: int) -> None:
    @server.tool(
        description="Answers a question from the memories, and says which one knew, how sure it is, and what it read.",
        annotations=_READS,
    )
    def recall(question: Question) -> Recalled:
        with _telling():
            said = loaded.ask(lambda model: answer(model, question, max_new_tokens=max_new_tokens))
        return Recalled(
            answer=said.text,
            outcome=said.route.outcome,
            route=_route(said.route),
            probability=said.probability,
            right=said.right,
            passages=[
                Passage(text=p.text, memory=p.memory, source=p.source, similarity=p.similarity) for p in said.passages
            ],
        )

    @server.tool(
        description="Says which memory a question goes to, and why, without answering it: quick and cheap.",
        annotations=_READS,
    )
    def which_memory(question: Question) -> Which:
        def explained(model: LoraryForCausalLM) -> Explanation:
            hidden = None
            if "hidden" in model.router.gate.features:
                hidden = pooled_prompts(model.base, model.tokenizer, model.config.split_layer, [question])
            return explain(model.router, question, hidden)

        with _telling():
            told = loaded.ask(explained)
        near = told.nearest
        return Which(
            route=_route(told.route),
            why=told.reason,
            nearest_wording=near and near.text,
            nearest_memory=near and near.memory,
        )

    @server.tool(
        description="Lists the memories with how many facts each holds; of a named one also its facts, with their ids.",
        annotations=_READS,
    )
    def list_memories(memory: Name | None = None) -> Listed:
        def listed(model: LoraryForCausalLM) -> Listed:
            bank = model.router.bank
            memories = [*bank] if memory is None else [bank[memory]]
            return Listed(base=bank.base, memories=[_held(one, memory is not None) for one in memories])

        with _telling():
            return loaded.ask(listed)


def _add_writing(server: MCPServer, loaded: Loaded, writer: Writer) -> None:
    turn = threading.Lock()

    @server.tool(
        description="Writes facts, or sentences, into a memory on disk, which is trained on them: it takes seconds to minutes. "
        "A newer fact takes the place of an older one that asks the same.",
        annotations=ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False),
    )
    def remember(
        memory: Annotated[
            Name | None, Field(description="the memory to write to, a new one too; sentences find their own without it")
        ] = None,
        facts: Annotated[list[GivenFact], Field(max_length=256)] = [],  # noqa: B006  (a schema's default, never changed)
        sentences: Annotated[
            list[Annotated[str, Field(min_length=1, max_length=2000)]],
            Field(max_length=64, description="what is to be remembered, told as sentences that name their subject"),
        ] = [],  # noqa: B006
    ) -> Remembered:
        with _telling(), turn:
            if not facts and not sentences:
                raise LoraryError("nothing is given to remember; give facts, sentences, or both")
            if facts and memory is None:
                raise LoraryError("facts need the name of their memory; give memory, such as 'boat'")
            given = [fact.model_dump(exclude_none=True) for fact in facts]
            written = writer.remember(loaded.base(), memory, given, sentences)
            loaded.ask(lambda _: None)
        return Remembered(**written)

    @server.tool(
        description="Forgets facts of a memory by their ids (see list_memories), or all of it where `everything` says so, on "
        "disk, and proves that nothing knows them any more. It cannot be undone by another tool.",
        annotations=ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False),
    )
    def forget(
        memory: Name,
        facts: Annotated[list[str], Field(description="ids")] = [],  # noqa: B006
        everything: Annotated[bool, Field(description="forget the whole memory; then give no facts")] = False,
    ) -> Forgot:
        with _telling(), turn:
            if everything == bool(facts):  # never by what is left out: a client may lose an argument, or write null
                raise LoraryError(
                    "give the ids of facts, or everything=true to forget the whole memory: one of the two"
                )
            told = writer.forget(loaded.base(), memory, facts or None)
            loaded.ask(lambda _: None)
        return Forgot(
            memory=told["memory"],
            facts=[fact["question"] for fact in told["facts"]],
            left_the_bank=told["left"],
            holds=told["holds"],
            still_told=[f"{one['memory']}: {one['text']}" for one in told["still_told"]],
            earlier_versions="gone, too" if told["left"] else "they stay on disk until a person runs `lorary gc BANK`",
        )


@contextmanager
def _telling() -> Iterator[None]:
    """Lets the agent read what is wrong, where it can be put right: other errors are ours, and only the log tells them."""
    try:
        yield
    except (LoraryError, OSError) as error:
        raise ToolError(one_line(error)) from error


def _route(route: policy.Route) -> Route:
    return Route(memories=list(route.memories), decided_by=route.source, confidence=route.confidence)


def _held(memory: Memory, with_facts: bool) -> HeldMemory:
    held = [HeldFact(id=fact.id, question=fact.question, answer=fact.answer) for fact in memory.facts]
    return HeldMemory(
        name=memory.name,
        facts=len(memory.facts),
        passages=len(memory.documents),
        recall=(memory.card.get("certificate", {}).get("recall_by_wording", {}).get("validation") or {}).get("value"),
        held=held if with_facts else None,
    )
