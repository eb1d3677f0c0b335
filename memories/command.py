"""The commands `build`, `add`, `merge`, `capacity`, `wordings` and `plan`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from jsonargparse import ArgumentParser

from lorary.base.loading import EMBEDDED
from lorary.memories.writing import Recipe
from lorary.routing.encoder import EMBEDDED as EMBEDDED_ENCODER


def build(argv: list[str]) -> None:
    """Writes a bank from facts."""
    parser = ArgumentParser(prog="lorary build", description="Writes a memory for each topic into a bank.")
    parser.add_argument("facts", type=str, nargs="+", help="JSONL files of facts, or folders of them")
    parser.add_argument("--out", type=str, required=True, help="folder of the bank; a run that stopped goes on there")
    parser.add_argument("--base", type=str, default=EMBEDDED, help="hub id, local folder or the embedded default")
    parser.add_argument("--encoder", type=str, default=EMBEDDED_ENCODER, help="likewise, for the sentence encoder")
    parser.add_argument("--revision", type=str | None, default=None, help="of a base from a hub")
    parser.add_argument("--local-files-only", action="store_true", help="never ask a hub")
    parser.add_argument(
        "--as-one", type=str | None, default=None, help="one memory of this name for all facts, to compare with"
    )
    parser.add_argument("--processes", type=int | None, default=None, help="that write side by side; one a core")
    parser.add_argument("--fresh", action="store_true", help="write every memory anew")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print the certificates as JSON")
    parser.add_class_arguments(Recipe)
    given = parser.parse_args(argv)
    from lorary.memories.building import build as run

    fields = {name: getattr(given, name) for name in Recipe.__dataclass_fields__}
    fields["target_modules"] = tuple(fields["target_modules"]) if fields["target_modules"] else None
    fields["formats"] = tuple(fields["formats"])
    passed = ("out", "base", "encoder", "revision", "local_files_only", "as_one", "processes", "fresh", "quiet")
    bank = run(given.facts, recipe=Recipe(**fields), **{name: getattr(given, name) for name in passed})
    cards = {memory.name: memory.card.get("certificate", {}) for memory in bank}
    if given.json:
        print(json.dumps(cards))
        return
    for name, card in cards.items():
        share = card.get("recall_validation_wordings", float("nan"))
        told = f"{card.get('facts', 0)} facts, {share:.0%} recalled under validation wordings"
        print(f"{name}: {told} ({card.get('stopped', 'imported')} after {card.get('epochs', 0)} epochs)")
    print(f"bank: {given.out}")


def add(argv: list[str]) -> None:
    """Adds a stock PEFT LoRA folder to a bank."""
    parser = ArgumentParser(prog="lorary add", description="Adds a stock PEFT LoRA folder to a bank.")
    parser.add_argument("bank", type=str, help="folder of the bank")
    parser.add_argument("adapter", type=str, help="a folder that PEFT saved")
    parser.add_argument("--name", type=str | None, default=None, help="of the memory; the folder's name by default")
    parser.add_argument("--facts", type=str | None, default=None, help="JSONL of what it holds, to route by")
    parser.add_argument("--same-base", action="store_true", help="its base is the bank's under another name")
    given = parser.parse_args(argv)
    from lorary.bank.bank import MemoryBank
    from lorary.bank.facts import read_facts
    from lorary.routing.encoder import load_encoder

    facts = tuple(read_facts(given.facts)) if given.facts else ()
    with MemoryBank.change(given.bank) as bank:
        encoder = load_encoder(bank.encoder) if facts else None
        memory = bank.add(Path(given.adapter), name=given.name, facts=facts, encoder=encoder, same_base=given.same_base)
    print(f"{memory.name}: added, {len(facts)} facts; the bank holds {bank.names}")


def merge(argv: list[str]) -> None:
    """Merges memories of a bank into one stock PEFT adapter."""
    parser = ArgumentParser(prog="lorary merge", description="Merges memories of a bank into one stock PEFT adapter.")
    parser.add_argument("bank", type=str, help="folder of the bank or composite")
    parser.add_argument("--out", type=str, required=True, help="folder of the adapter")
    parser.add_argument("--how", type=str, default="exact", help="exact, ties or linear")
    parser.add_argument("--memories", type=str, nargs="+", default=None, help="which; all by default")
    parser.add_argument("--weights", type=float, nargs="+", default=None, help="of each; equal by default")
    parser.add_argument("--density", type=float, default=0.2, help="share of entries that ties keeps")
    given = parser.parse_args(argv)
    from lorary.memories.merging import merge as run

    passed = {name: getattr(given, name) for name in ("out", "how", "memories", "weights", "density")}
    print(f"adapter: {run(given.bank, **passed)}")


def plan(argv: list[str]) -> None:
    """Tells what a corpus will take."""
    parser = ArgumentParser(
        prog="lorary plan",
        description="Tells how many memories, of which rank, how many minutes and bytes these facts take, from a "
        "measured study, with the working of each number. Nothing is written.",
    )
    parser.add_argument("facts", type=str, nargs="+", help="JSONL files of facts, or folders of them")
    parser.add_argument(
        "--capacity",
        type=str | None,
        default=None,
        help="folder that `lorary capacity` wrote; else the shipped study",
    )
    parser.add_argument(
        "--recall", type=float | None, default=None, help="share of facts to recall; the study's by default"
    )
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    given = parser.parse_args(argv)
    from lorary.memories.building import read_topics
    from lorary.memories.capacity_report import tell, working
    from lorary.memories.planning import plan as run

    found = run(read_topics(given.facts), capacity=given.capacity, recall=given.recall)
    if not given.json:
        print(tell(found))
        return
    told = {**asdict(found), "working": [line.strip() for line in working(found, found.options[0])]}
    print(json.dumps({**told, "study": {k: v for k, v in told["study"].items() if k != "cells"}}, ensure_ascii=False))
