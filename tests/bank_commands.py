"""Commands that change a bank, and a bank of two memories to change by them."""

from __future__ import annotations

from dataclasses import replace

from conftest import save_adapter
from test_updating import CODE, COOK, OIL, RECIPE, write
from test_versions import change

from lorary.bank.bank import MemoryBank
from lorary.commands import remember
from lorary.intake.generators import generator_named
from lorary.intake.told import told
from lorary.memories.building import build
from lorary.memories.forgetting import forget
from lorary.memories.keeping import gc, rollback, update

LOADED = gc, rollback, update, remember, forget
"""So that the processes below start with what these need."""
QUIET = ("--quiet", "--processes", "1")


def prepared(place, base):
    """A bank of two memories, one of them in two versions, and what the commands take."""
    facts = write(place / "facts", ormen=[COOK, CODE], lamps=[OIL])
    build([facts], out=place / "bank", base=base, recipe=RECIPE, quiet=True)
    change(place / "bank", "lamps")
    told(
        ["The cook at Ormen is Tilde Moor."], generator=generator_named("rules")
    )  # loads the grammar for all processes
    news = write(place / "news", ormen=[replace(COOK, answer="Brisk")])
    write(place / "more", harbour=[replace(OIL, topic="harbour", question="Who pilots?", questions=())])
    (news / "page.md").write_text("Brisk cooks at Ormen.")
    save_adapter(base.model, place / "adapter", r=2, target_modules=["up_proj"])
    return place


COMMANDS = {
    "update": lambda p: ("update", p / "bank", "ormen", p / "news", *QUIET),
    "remember": lambda p: ("remember", p / "bank", "The cook at Ormen is Tilde Moor.", "--quiet"),
    "add": lambda p: ("add", p / "bank", "--documents", p / "news" / "page.md", "--name", "ormen"),
    "rollback": lambda p: ("rollback", p / "bank", "lamps", "1"),
    "gc": lambda p: ("gc", p / "bank"),
    "forget": lambda p: ("forget", p / "bank", "ormen", "--facts", CODE.id, "--quiet"),
    "add an adapter": lambda p: (
        *("add", p / "bank", p / "adapter", "--name", "isle", "--same-base"),
        *("--facts", p / "more" / "harbour.jsonl"),
    ),
    "build": lambda p: (
        *("build", p / "more", "--out", p / "bank", "--base", str(MemoryBank.load(p / "bank").base)),
        *("--max-epochs", "1", "--r", "2", *QUIET),
    ),
}


def state(bank_folder):
    """What a bank answers from: the facts, documents and factors of its memories."""
    bank = MemoryBank.load(bank_folder)
    return {
        memory.name: (memory.facts, memory.documents, *(tensor.tolist() for tensor in memory.tensors.values()))
        for memory in bank
    }
