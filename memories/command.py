"""The commands `build`, `add`, `merge`, `capacity`, `wordings` and `plan`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from jsonargparse import ArgumentParser

from lorary.bases import EMBEDDED
from lorary.encoder import EMBEDDED as EMBEDDED_ENCODER
from lorary.memories.writing import Recipe


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
    from lorary.encoder import load_encoder
    from lorary.facts import read_facts
    from lorary.memory import MemoryBank

    bank = MemoryBank.load(given.bank)
    facts = tuple(read_facts(given.facts)) if given.facts else ()
    encoder = load_encoder(bank.encoder) if facts else None
    memory = bank.add(Path(given.adapter), name=given.name, facts=facts, encoder=encoder, same_base=given.same_base)
    bank.save(given.bank)
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


def capacity(argv: list[str]) -> None:
    """Measures how much a memory of each rank holds."""
    parser = ArgumentParser(
        prog="lorary capacity",
        description="Measures how many facts a memory of each rank recalls. Writes memories of invented facts, each "
        "fact shown equally often whatever the load, and tells the knee: the largest load that is still recalled.",
    )
    parser.add_argument(
        "--out", type=str, required=True, help="folder of results.json, report.md and recall.png; a run goes on there"
    )
    parser.add_argument("--base", type=str, default=EMBEDDED, help="hub id, local folder or the embedded default")
    parser.add_argument("--ranks", type=str, default="1,2,4,8,16", help="LoRA ranks, with commas between")
    parser.add_argument("--loads", type=str, default="25,50,100,200,400", help="facts a memory, with commas between")
    parser.add_argument("--seeds", type=int, default=1, help="how many sets of facts, from seed 0")
    parser.add_argument("--exposures", type=int, default=5, help="passes over all wordings, for every load")
    parser.add_argument("--wordings", type=int, default=8, help="trained wordings a fact, 1 to 8")
    parser.add_argument("--recall", type=float, default=0.9, help="the share of facts that defines the knee")
    parser.add_argument("--processes", type=int | None, default=None, help="that write side by side; one a core")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    given = parser.parse_args(argv)
    from lorary.memories.capacity import Grid
    from lorary.memories.capacity import capacity as run
    from lorary.memories.capacity_report import report

    lists = {name: _numbers(name, getattr(given, name)) for name in ("ranks", "loads")}
    plain = {name: getattr(given, name) for name in ("seeds", "exposures", "wordings", "recall")}
    passed = {name: getattr(given, name) for name in ("base", "processes", "quiet")}
    study = run(given.out, grid=Grid(**lists, **plain), **passed)
    print(json.dumps(study.to_json()) if given.json else f"{report(study)}\nstudy: {given.out}")


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.strip("[]() ").split(","))
    except ValueError:
        raise ValueError(f"--{name} takes whole numbers with commas between, such as 4,8; {text!r} given") from None


def wordings(argv: list[str]) -> None:
    """Measures what the texts of a fact add to its recall."""
    parser = ArgumentParser(
        prog="lorary wordings",
        description="Measures what the number of wordings of a fact, the format of its texts and who words its "
        "questions add to its recall under held-out wordings. Each fact is shown equally often whatever its texts. The "
        "default run writes 36 memories of 32 facts, in about 30 minutes on two idle cores with AVX512-BF16.",
    )
    parser.add_argument(
        "--out", type=str, required=True, help="folder of results.json, report.md and recall.png; a run goes on there"
    )
    parser.add_argument("--facts", type=str, nargs="+", default=None, help="JSONL files or folders; the sample facts")
    parser.add_argument("--base", type=str, default=EMBEDDED, help="hub id, local folder or the embedded default")
    parser.add_argument("--counts", type=str, default="1,2,4,8,16,24", help="numbers of wordings, with commas between")
    parser.add_argument(
        "--texts", type=int, default=8, help="wordings of the reference, which formats and generators vary"
    )
    parser.add_argument("--parts", type=str, default="number,format,generator", help="of the study, commas between")
    parser.add_argument("--seeds", type=int, default=3, help="draws of wordings, first weights and order, from seed 0")
    parser.add_argument("--exposures", type=int, default=48, help="times a fact is shown, a multiple of 4")
    parser.add_argument("--facts-a-topic", type=int, default=4, help="the first so many of each topic, in one memory")
    parser.add_argument("--processes", type=int | None, default=None, help="that write side by side; one a core")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    given = parser.parse_args(argv)
    from lorary.memories.settings import Design
    from lorary.memories.wordings import SAMPLES
    from lorary.memories.wordings import wordings as run
    from lorary.memories.wordings_report import report

    parts = tuple(part.strip() for part in given.parts.split(","))
    plain = {name: getattr(given, name) for name in ("texts", "seeds", "exposures", "facts_a_topic")}
    design = Design(counts=_numbers("counts", given.counts), parts=parts, **plain)
    passed = {name: getattr(given, name) for name in ("base", "processes", "quiet")}
    study = run(given.out, facts=given.facts or [SAMPLES], design=design, **passed)
    print(json.dumps(study.to_json(), ensure_ascii=False) if given.json else f"{report(study)}\nstudy: {given.out}")


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
