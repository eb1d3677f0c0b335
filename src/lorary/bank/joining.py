"""What joins a bank: a memory, a stock PEFT LoRA folder, or documents, with or without an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorary.bank.adapters import fresh_adapter, read_adapter
from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.bank.files import BankError
from lorary.bank.memory import Memory
from lorary.bank.origin import check_base

if TYPE_CHECKING:
    from lorary.bank.bank import MemoryBank

DOCUMENTS = "documents"
"""The recipe of a memory whose adapter adds nothing: it holds documents, and maybe facts to route by."""


def joining_memory(
    bank: MemoryBank,
    source: Memory | str | Path | None,
    name: str | None,
    facts: Sequence[Fact],
    documents: Sequence[Passage],
    same_base: bool,
) -> Memory:
    """The memory that joins a bank, its keys not made yet; `MemoryBank.add` tells the arguments and what is raised."""
    if source is None:
        memory = _of_documents(bank, name, facts, documents)
    elif isinstance(source, Memory):
        memory = replace(source, name=name) if name else source
    else:
        folder = Path(source)
        config, tensors = read_adapter(folder)
        if not same_base:
            check_base(config, bank.base, bank.revision, bank.fingerprint, str(folder))
        memory = Memory(name or folder.resolve().name, config, tensors, card={"recipe": "imported"})
    if facts:
        memory = replace(memory, facts=tuple(facts))
    return memory.with_documents(documents) if documents else memory


def _of_documents(bank: MemoryBank, name: str | None, facts: Sequence[Fact], documents: Sequence[Passage]) -> Memory:
    """The bank's memory of that name, to which documents come, or a new one whose adapter adds nothing."""
    if not documents:
        raise BankError("nothing is given to add; give an adapter, documents, or both")
    if name is None:
        raise BankError("documents without an adapter need the name of a memory; give name= (--name)")
    memory = bank.memories.get(name)
    if memory is None:
        return Memory(name, *fresh_adapter(bank.shapes, bank.layers_path, bank.base), card={"recipe": DOCUMENTS})
    if facts and memory.card.get("recipe") != DOCUMENTS:
        raise BankError(
            f"{name!r} has an adapter, and facts are told by its training; add its documents without facts, or build it "
            "again from all its facts"
        )
    return memory
