"""The commands that change a bank: `new`, `build`, `remove`, `merge`; and `plan`, which tells what one will take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorary.memories.recipe import QUICK, Recipe
from lorary.options import Options, made, taken
from lorary.printing import print_json
from lorary.tables import counted, percent


def _add_base(parser: Options) -> None:
    parser.add_argument(
        "--base",
        metavar="NAME",
        help="base model: a hub id, a local folder, embedded:gemma3-270m; by default the embedded SmolLM2",
    )
    parser.add_argument("--encoder", metavar="NAME", help="sentence encoder that makes the keys; likewise")
    parser.add_argument("--revision", metavar="NAME", help="revision of a base from a hub")
    parser.add_argument("--local-files-only", action="store_true", help="never ask a hub")


def new(argv: list[str]) -> None:
    """Starts a bank without a memory."""
    parser = Options(
        "new",
        "Starts an empty bank over a base, for people who have adapters already: `lorary add` puts them in, "
        "`lorary train-router` trains their gate. Only the base is read, for its shapes and its fingerprint.",
        "BANK",
    )
    parser.add_argument("bank", metavar="BANK", help="folder of the bank, which must not hold another one yet")
    _add_base(parser)
    options = parser.parse_args(argv)
    from lorary.bank.files import MANIFEST, BankError
    from lorary.bank.manifest import read_manifest
    from lorary.base.loading import EMBEDDED, load_base
    from lorary.memories.building import new_bank
    from lorary.routing.encoder import EMBEDDED as EMBEDDED_ENCODER
    from lorary.routing.encoder import load_encoder

    place = Path(options.bank)
    standing = read_manifest(place) if (place / MANIFEST).exists() else None
    holds_one = BankError(
        f"{options.bank} holds a bank already; `lorary list {options.bank}` shows it; give another folder"
    )
    if standing is not None and standing.versions:
        raise holds_one
    encoder = load_encoder(options.encoder or EMBEDDED_ENCODER, options.local_files_only)
    source = taken(options, "revision", "local_files_only")
    bank = new_bank(load_base(options.base or EMBEDDED, **source), encoder.name)
    if standing is not None and (standing.fingerprint, standing.encoder) != (bank.fingerprint, bank.encoder):
        raise holds_one
    bank.save(options.bank)
    print(f"bank: {options.bank}, empty, over {bank.base}")
    print(f"next: lorary add {options.bank} ADAPTER --facts FILE")


def _build_options(quick: bool) -> Options:
    parser = Options(
        "build",
        "Writes a memory for each topic into a bank, with the documents whose file has the topic's name. What stands there "
        "already and has not changed is kept, so the same command goes on where it was stopped. What the facts contradict, "
        "in the bank or among them, is listed.",
        "FACTS ... --out BANK",
    )
    parser.add_argument(
        "facts",
        metavar="FACTS",
        nargs="+",
        help="JSONL files of facts, Markdown or text files of documents, or folders of both",
    )
    parser.add_argument("--out", metavar="BANK", required=True, help="folder of the bank")
    _add_base(parser)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="write in three fifths of the time by showing each fact less often; of the demo 0.90 was recalled, not 0.93 to 0.95",
    )
    parser.add_argument("--as-one", metavar="NAME", help="one memory of this name for all facts, to compare with")
    parser.add_argument(
        "--processes", type=int, metavar="N", help="memories written side by side; by default one a core"
    )
    parser.add_argument(
        "--cluster", metavar="ADDRESS", help="Dask scheduler whose workers write instead: tcp://HOST:8786"
    )
    parser.add_argument("--fresh", action="store_true", help="write every memory anew")
    parser.add_argument(
        "--budget", type=float, metavar="MINUTES", help="make as many passes as fit, or say how many minutes would do"
    )
    parser.add_check_base()
    parser.add_quiet()
    parser.add_json("the certificates, and what the facts contradict")
    parser.add_record(Recipe, "how memories are written")
    if quick:
        parser.set_defaults(**QUICK)
    return parser


def build(argv: list[str]) -> None:
    """Writes a bank from facts."""
    options = _build_options("--quick" in argv).parse_args(argv)
    recipe = made(Recipe, options)  # a bad value is told before anything is imported or read
    from lorary.memories.building import build as run
    from lorary.memories.contradictions import Contradiction, lines

    names = (
        "out",
        "base",
        "encoder",
        "revision",
        "local_files_only",
        "as_one",
        "processes",
        "cluster",
        "fresh",
        "budget",
        "check_base",
    )
    passed, found = taken(options, *names), list[Contradiction]()
    bank = run(options.facts, recipe=recipe, quiet=options.quiet, tell=found.extend, **passed)
    cards = {memory.name: memory.card.get("certificate", {}) for memory in bank}
    if options.json:
        told = {name: [asdict(own) for own in found if own.topic == name] for name in cards}
        print_json({name: {**card, "contradictions": told[name]} for name, card in cards.items()})
        return
    written = [f"{name}: {_certified(card)}" for name, card in cards.items()]
    print("\n".join([*lines(found), *written, f"bank: {options.out}"]))


def _certified(card: Mapping[str, Any]) -> str:
    """What a certificate tells, for people."""
    if not card:
        return "not trained here, no recall measured"
    recall = card.get("recall_validation_wordings")
    if recall is None:
        measured = "recall not measured: its facts have too few wordings"
    else:
        wording, fact = (percent(card.get(f"recall_by_{of}", {}).get("validation")) for of in ("wording", "fact"))
        measured = f"{wording} of validation wordings recalled, {fact} of facts under every one"
    stopped = f"{card['stopped']} after {counted(card['epochs'], 'epoch')}"
    return f"{counted(card['facts'], 'fact')}, {measured} ({stopped})"


def remove(argv: list[str]) -> None:
    """Takes a memory out of a bank."""
    parser = Options(
        "remove", "Takes a memory out of a bank or composite, and deletes it there with all its versions.", "BANK NAME"
    )
    parser.add_argument("bank", metavar="BANK", help="folder of the bank or composite")
    parser.add_argument("name", metavar="NAME", help="name of the memory; `lorary list BANK` shows them")
    options = parser.parse_args(argv)
    from lorary.bank.bank import MemoryBank
    from lorary.memories.forgotten import has_left
    from lorary.model.composite import load_composite
    from lorary.model.saved import is_composite

    if is_composite(options.bank):
        MemoryBank.load(options.bank)[options.name]  # an unknown name is told before the base is loaded
        model = load_composite(options.bank)
        model.remove_memory(options.name)
        model.save_pretrained(options.bank)
        left = model.memories
    else:
        with MemoryBank.change(options.bank) as bank:
            if not has_left(options.bank, options.name):  # what a stopped call removed is removed
                bank.remove(options.name)
        left = bank.names
    print(f"{options.name}: removed; the bank holds {', '.join(left) or 'no memory'}")


def merge(argv: list[str]) -> None:
    """Merges memories of a bank into one stock PEFT adapter."""
    parser = Options("merge", "Merges memories of a bank into one stock PEFT adapter.", "BANK --out ADAPTER")
    parser.add_argument("bank", metavar="BANK", help="folder of the bank or composite")
    parser.add_argument("--out", metavar="ADAPTER", required=True, help="folder of the adapter")
    parser.add_argument(
        "--how", choices=("exact", "ties", "linear"), default="exact", help="exact keeps the sum of all updates"
    )
    parser.add_argument(
        "--memories", metavar="NAME", nargs="+", help="which memories; by default all that have an adapter"
    )
    parser.add_argument("--weights", metavar="X", type=float, nargs="+", help="weight of each; by default equal")
    parser.add_argument("--density", metavar="X", type=float, default=0.2, help="share of entries that ties keeps")
    options = parser.parse_args(argv)
    from lorary.bank.merging import merge as run

    print(f"adapter: {run(options.bank, **taken(options, 'out', 'how', 'memories', 'weights', 'density'))}")


def plan(argv: list[str]) -> None:
    """Tells what a corpus will take."""
    parser = Options(
        "plan",
        "Tells how many memories, of which rank, how many minutes and bytes these facts take, from a measured study, with "
        "the working of each number. Nothing is written.",
        "FACTS ...",
    )
    parser.add_argument("facts", metavar="FACTS", nargs="+", help="JSONL files of facts, or folders of them")
    parser.add_argument(
        "--capacity", metavar="FOLDER", help="study of `lorary research capacity` to go by; by default the shipped one"
    )
    parser.add_argument("--recall", metavar="X", type=float, help="share of facts to recall; by default the study's")
    parser.add_json("the plan")
    options = parser.parse_args(argv)
    from lorary.memories.planning import other_recipe, tell_plan, working
    from lorary.memories.planning import plan as run
    from lorary.memories.topics import read_topics

    planned = run(read_topics(options.facts), capacity=options.capacity, recall=options.recall)
    if not options.json:
        print(tell_plan(planned))
        return
    working_of = [line.strip() for line in working(planned, planned.options[0])]
    fields = {**asdict(planned), "working": working_of, "other_recipe": other_recipe(planned.study)}
    fields["study"] = {name: value for name, value in fields["study"].items() if name != "cells"}
    print_json(fields)
