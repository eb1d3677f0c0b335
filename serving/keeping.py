"""Keeping: memories join, change and leave while a server runs, in the model and on disk, or in neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lorary.bank.bank import MemoryBank
from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.bank.files import BankError
from lorary.bank.memory import Memory
from lorary.errors import LoraryError
from lorary.model.modeling import LoraryForCausalLM
from lorary.model.refreshing import alike, check_same_base, readable
from lorary.model.untrained import is_bare_bank


class Keeper:
    """Changes the memories of a composite, and writes each change to its folder before it is told.

    Its methods run in the engine's thread.

    Args:
        folder: of the composite, or of the bank without a trained router; None writes nothing.
    """

    def __init__(self, model: LoraryForCausalLM, folder: str | Path | None) -> None:
        self.model, self.folder = model, None if folder is None else Path(folder)

    def add(
        self,
        name: str,
        adapter: str | None,
        facts: Sequence[Fact],
        documents: Sequence[Passage],
        same_base: bool = False,
    ) -> Memory:
        """Adds a memory. Raises LoraryError where one has that name, or what is given cannot be one."""
        if name in self.model.memories:
            raise BankError(f"the bank already holds {name!r}; PUT changes it, DELETE removes it")
        encoder = self.model.router.get_encoder() if facts or documents else None
        with self._kept():
            return self.model.add_memory(
                None if adapter is None else Path(adapter),
                name=name,
                facts=facts,
                documents=documents,
                encoder=encoder,
                same_base=same_base,
            )

    def update(
        self,
        name: str,
        adapter: str | None,
        facts: Sequence[Fact],
        documents: Sequence[Passage],
        same_base: bool = False,
    ) -> Memory:
        """Changes a memory: an adapter takes the place of all it was; else facts that of its facts, and a document that of
        the document of its name. Adds one that is not there."""
        if name not in self.model.memories:
            return self.add(name, adapter, facts, documents, same_base)
        if not (adapter or facts or documents):
            raise LoraryError("nothing is given to change; give adapter, facts or documents")
        source: Memory | Path
        if adapter is None:
            memory = self.model.router.bank[name]
            source = replace(memory, facts=tuple(facts) or memory.facts)
        else:
            source = Path(adapter)
        with self._kept():
            return self.model.add_memory(
                source,
                name=name,
                facts=facts,
                documents=documents,
                encoder=self.model.router.get_encoder(),
                same_base=same_base,
                replace_existing=True,
            )

    def remove(self, name: str) -> None:
        """Takes a memory out. Raises BankError for one that is not there."""
        with self._kept():
            self.model.remove_memory(name)

    def take_up(self, bank: str | Path, names: Sequence[str] | None = None, *, removing: bool = True) -> list[str]:
        """Takes the memories of some names over from a bank, and lets go of those that left it; returns the names that changed.

        Args:
            names: None for all that the bank or the composite holds.
            removing: whether memories that the bank does not hold may leave.

        Raises:
            BankError: a bank over another base, or one that lacks a memory where none may leave.
        """
        router, source = self.model.router, MemoryBank.load(bank)
        check_same_base(router.bank, source, self.folder or "this composite", bank)
        own = router.bank.memories
        names = [*source.names, *(name for name in own if name not in source.memories)] if names is None else names
        left = [name for name in names if name in own and name not in source.memories]
        new = [
            name for name in names if name in source.memories and not (name in own and alike(own[name], source[name]))
        ]
        if left and not removing:
            raise BankError(
                f"{self.folder or 'the composite'} holds {', '.join(left[:5])}, and {bank} does not; `lorary refresh COMPOSITE "
                "BANK` lets go of what the bank lacks, or leave --bank out"
            )
        if not left and not new:
            return []
        with self._kept():
            for name in left:
                self.model.remove_memory(name)
            for name in new:
                self.model.add_memory(readable(source[name], source, router), replace_existing=True)
        return [*left, *new]

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Writes what is changed inside to the folder; where that fails, the model is as it was."""
        memories = dict(self.model.router.bank.memories)
        gate = {name: tensor.clone() for name, tensor in self.model.gate.state_dict().items()}
        try:
            yield
            self._save()()
        except Exception:
            self.model.put_back(memories, gate)
            raise

    def _save(self) -> Callable[[], object]:
        folder = self.folder
        if folder is None:
            return lambda: None
        if is_bare_bank(folder):
            return lambda: self.model.router.bank.save(folder)
        return lambda: self.model.save_pretrained(folder)
