"""Keeping: memories join, change and leave while a server runs, in the model and on disk, or in neither.

Another process may write to the same folder, such as `lorary refresh`, or agents through `lorary mcp`. What it wrote is taken up
before the next route is decided and before the next change, and changes wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from lorary.bank.bank import MemoryBank
from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.bank.files import BankError, writing
from lorary.bank.memory import Memory
from lorary.errors import LoraryError
from lorary.model.modeling import LoraryForCausalLM
from lorary.model.refreshing import alike, check_same_base, readable
from lorary.model.untrained import is_bare_bank
from lorary.serving.following import settled, stamp_of


class Keeper:
    """Changes the memories of a composite, and writes each change to its folder before it is told.

    Its methods run in the engine's thread.

    Args:
        folder: of the composite, or of the bank without a trained router; None writes nothing.
        stamp: of the folder when the composite was read (`following.opened`); None where nobody has written to it since.
    """

    def __init__(
        self, model: LoraryForCausalLM, folder: str | Path | None, stamp: tuple[int, ...] | None = None
    ) -> None:
        self.model, self.folder = model, None if folder is None else Path(folder)
        self._stamp = stamp if stamp is not None or self.folder is None else stamp_of(self.folder)

    def add(
        self,
        name: str,
        adapter: str | None,
        facts: Sequence[Fact],
        documents: Sequence[Passage],
        same_base: bool = False,
    ) -> Memory:
        """Adds a memory. Raises LoraryError where one has that name, or what is given cannot be one."""
        self.follow()
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
        self.follow()
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
        self.follow()
        source = MemoryBank.load(bank)
        left, new = self._differences(source, bank, names, alike)
        if left and not removing:
            raise BankError(
                f"{self.folder or 'the composite'} holds {', '.join(left[:5])}, and {bank} does not; `lorary refresh COMPOSITE "
                "BANK` lets go of what the bank lacks, or leave --bank out"
            )
        if left or new:
            with self._kept():
                self._take_over(source, left, new)
        return [*left, *new]

    def follow(self) -> bool:
        """Takes up what another process has written to the folder since it was read; whether there was anything."""
        folder = self.folder
        if folder is None or stamp_of(folder) == self._stamp:
            return False
        return settled(folder, lambda: self._catch_up(folder))

    def _catch_up(self, folder: Path) -> bool:
        stamp = stamp_of(folder)
        source = MemoryBank.load(folder)
        bank, key = self.model.router.bank, str(folder.resolve())
        changed = bank.stored.get(key, ("", {}))[0] != source.stored[key][0]
        if changed:
            with self._whole():
                # File by file: what the memories of before lay in may be gone.
                self._take_over(source, *self._differences(source, folder, None, Memory.is_file_by_file))
            # What lies there is what this bank holds now.
            bank.stored = {**bank.stored, key: (source.stored[key][0], dict(bank.memories))}
            bank.versions, bank.contents = {**bank.versions, **source.versions}, source.contents
        self._stamp = stamp
        return changed

    def _differences(
        self, source: MemoryBank, place: str | Path, names: Sequence[str] | None, same: Callable[[Memory, Memory], bool]
    ) -> tuple[list[str], list[str]]:
        """(the memories of some names that a bank at a place does not hold, those that it holds otherwise)."""
        router = self.model.router
        check_same_base(router.bank, source, self.folder or "this composite", place)
        own = router.bank.memories
        names = [*source.names, *(name for name in own if name not in source.memories)] if names is None else names
        left = [name for name in names if name in own and name not in source.memories]
        new = [
            name for name in names if name in source.memories and not (name in own and same(own[name], source[name]))
        ]
        return left, new

    def _take_over(self, source: MemoryBank, left: Sequence[str], new: Sequence[str]) -> None:
        for name in left:
            self.model.remove_memory(name)
        for name in new:
            self.model.add_memory(readable(source[name], source, self.model.router), replace_existing=True)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Writes what is changed inside to the folder, which is held meanwhile; where that fails, the model is as it was."""
        with nullcontext() if self.folder is None else writing(self.folder):
            self.follow()
            with self._whole():
                yield
                self._save()()
            self._stamp = None if self.folder is None else stamp_of(self.folder)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Puts the model back as it was where what is inside fails."""
        memories = dict(self.model.router.bank.memories)
        gate = {name: tensor.clone() for name, tensor in self.model.gate.state_dict().items()}
        try:
            yield
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
