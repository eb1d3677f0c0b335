"""The command `add`: a stock PEFT adapter, documents, or both join a bank."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lorary.options import Options
from lorary.printing import print_json
from lorary.tables import counted

if TYPE_CHECKING:
    from lorary.bank.documents import Passage
    from lorary.bank.facts import Fact
    from lorary.bank.memory import Memory
    from lorary.memories.contradictions import Contradiction


def add(argv: list[str]) -> None:
    """Adds a stock PEFT LoRA folder, documents, or both to a bank."""
    parser = Options(
        "add",
        "Adds a stock PEFT LoRA adapter, documents, or both to a bank or composite, as a memory. Its facts are what it is "
        "routed by; without them an adapter answers only where a caller names it, or a router was trained with examples of "
        "it. The passages of its documents may stand before a question. Documents without an adapter go to the memory of that "
        "name, or to a new one whose adapter adds nothing; a document takes the place of an earlier one of the same file "
        "name. What its facts contradict, in the bank or among them, is listed.",
        "BANK [ADAPTER] [--facts FILE] [--documents FILES]",
    )
    parser.add_argument("bank", metavar="BANK", help="folder of the bank or composite")
    parser.add_argument("adapter", metavar="ADAPTER", nargs="?", help="a folder that PEFT saved")
    parser.add_argument(
        "--name", metavar="NAME", help="name of the memory; by default the adapter's folder's, or the only document's"
    )
    parser.add_argument("--facts", metavar="FILE", help="JSONL of facts that it holds, to route by")
    parser.add_argument(
        "--documents", metavar="FILE", nargs="+", default=[], help="Markdown or text files that it holds"
    )
    parser.add_argument("--same-base", action="store_true", help="its base is the bank's under another name")
    parser.add_check_base()
    parser.add_json("what was added, and what it contradicts")
    options = parser.parse_args(argv)
    from lorary.bank.documents import read_documents
    from lorary.bank.facts import FactError, group_by_topic, read_facts
    from lorary.memories.contradictions import lines

    if not options.adapter and not options.documents:
        parser.error("nothing is given to add; give ADAPTER, --documents, or both")
    facts = tuple(read_facts(options.facts)) if options.facts else ()
    if options.facts and not facts:
        raise FactError(f"{options.facts} holds no fact; give a JSONL file of facts, or leave --facts out")
    # A wording with two answers is told before anything is changed.
    group_by_topic(replace(fact, topic=Path(options.facts).stem) for fact in facts)
    documents = read_documents(options.documents)
    memory, names, found = _joined(options, facts, documents)
    if options.json:
        sizes = {"memory": memory.name, "facts": len(memory.facts), "passages": len(documents)}
        print_json({**sizes, "contradictions": [asdict(told) for told in found]})
        return
    held = [counted(len(memory.facts), "fact"), *([counted(len(documents), "passage")] if documents else [])]
    print("\n".join([*lines(found), f"{memory.name}: added, {', '.join(held)}; the bank holds {', '.join(names)}"]))
    if not memory.facts and not documents:
        print(
            "it has no facts to be routed by; only a caller that names it reaches it (--facts FILE), until a router is trained "
            "with prompts of it (lorary train-router --examples FILE)"
        )


def _joined(
    options: Namespace, facts: Sequence[Fact], documents: Sequence[Passage]
) -> tuple[Memory, list[str], list[Contradiction]]:
    """(the memory that joined the bank, the names of all, what its facts contradict)."""
    from lorary.bank.bank import MemoryBank
    from lorary.bank.files import BankError
    from lorary.memories.base_beliefs import with_base
    from lorary.memories.contradictions import with_bank
    from lorary.model.composite import base_of
    from lorary.model.refreshing import alike
    from lorary.model.saving import card_beside
    from lorary.routing.encoder import load_encoder

    one = options.documents[0] if not options.adapter and len(options.documents) == 1 else None
    name, found = options.name or (Path(one).stem if one else None), []
    with MemoryBank.change(options.bank, "add", partial(card_beside, Path(options.bank))) as bank:
        before = replace(bank, memories=dict(bank.memories))
        joins_as = (name or Path(options.adapter).resolve().name) if options.adapter else ""
        standing = before.memories.pop(joins_as, None)
        encoder = load_encoder(bank.encoder) if facts or documents else None
        memory = bank.add(
            Path(options.adapter) if options.adapter else None,
            name=name,
            facts=facts,
            documents=documents,
            encoder=encoder,
            same_base=options.same_base,
            replace_existing=standing is not None,
        )
        if standing is not None:  # the work of a call that was stopped behind its commit is done
            if not alike(standing, memory):
                raise BankError(f"the bank already holds {joins_as!r}; remove it first or give another name")
            memory = bank.memories[joins_as] = standing
        if facts and encoder is not None:
            elsewhere, others = with_bank(before, {memory.name: facts}, {memory.name: facts}, encoder)
            found = [*elsewhere, *others]
        if facts and options.check_base:
            found += with_base(memory.name, facts, base_of(before))
    return memory, bank.names, found
