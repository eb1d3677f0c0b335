"""The commands that keep a bank true: `update`, `history`, `rollback`, `verify`, `gc`."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lorary.memories.recipe import Recipe
from lorary.options import Options, made, taken
from lorary.printing import print_json
from lorary.tables import aligned_table, counted

if TYPE_CHECKING:
    from lorary.bank.upkeep import Verified
    from lorary.bank.versions import Version
    from lorary.memories.updating import Change


def _add_memory(parser: Options) -> None:
    parser.add_argument("bank", metavar="BANK", help="folder of the bank or composite")
    parser.add_argument("name", metavar="NAME", help="name of the memory; `lorary list BANK` shows them")


def update(argv: list[str]) -> None:
    """Takes new facts and documents into a memory."""
    parser = Options(
        "update",
        "Takes new facts and documents into a memory of a bank, or starts it. The latest wins: a fact that shares a wording "
        "with an older one of the memory takes its place, any other is added, and a document replaces one of its file name. "
        "The memory is written anew from all its facts, as a new version; every other file of the bank stays. What the new "
        "facts contradict is listed.",
        "BANK NAME FACTS ...",
    )
    _add_memory(parser)
    parser.add_argument(
        "facts",
        metavar="FACTS",
        nargs="+",
        help="JSONL files of facts, Markdown or text files of documents, or folders of both",
    )
    parser.add_argument(
        "--replace-wordings",
        action="store_true",
        help="a new fact has its own wordings alone, none of the fact whose place it takes",
    )
    parser.add_check_base()
    parser.add_argument("--processes", type=int, metavar="N", help="processes that write; by default one a core")
    parser.add_quiet()
    parser.add_json("what was changed")
    parser.add_argument(
        "--anew", action="store_true", help="by the default recipe, not by the one that the memory was written with"
    )
    parser.add_record(Recipe, "how the memory is written; if none of these is given, as it was before")
    options = parser.parse_args(argv)
    recipe = made(Recipe, options)
    from lorary.bank.manifest import read_manifest
    from lorary.memories.topics import read_documents_of_topics, read_topics
    from lorary.memories.updating import update as run

    known = options.name in read_manifest(Path(options.bank)).versions
    as_before = known and not options.anew and recipe == Recipe()
    documents = read_documents_of_topics(options.facts, options.name)
    (change,) = run(
        options.bank,
        read_topics(options.facts, options.name, beside=documents),
        documents,
        recipe=None if as_before else recipe,
        keep_wordings=not options.replace_wordings,
        check_base=options.check_base,
        quiet=options.quiet,
        **taken(options, "processes"),
    )
    if options.json:
        print_json(asdict(change))
    else:
        print("\n".join(change_lines(change)))


def change_lines(change: Change) -> list[str]:
    """What an update did, for people."""
    from lorary.memories.contradictions import lines

    facts = str(change.difference)
    documents = f", {counted(len(change.documents), 'document')}" if change.documents else ""
    return [*lines(change.contradictions), f"{change.memory}: version {change.version}, {facts}{documents}"]


def history(argv: list[str]) -> None:
    """Lists the versions of a memory."""
    parser = Options(
        "history",
        "Lists the versions of a memory, oldest first: when and by what each was written, how many facts it changed and "
        "holds, and what it recalls under validation wordings. A composite knows the current version alone.",
        "BANK NAME",
    )
    _add_memory(parser)
    parser.add_json("the versions, with their recipes and folders")
    options = parser.parse_args(argv)
    from lorary.bank.upkeep import history as run

    versions = run(options.bank, options.name)
    if options.json:
        print_json({"memory": options.name, "versions": [version.to_json() for version in versions]})
        return
    rows = [["version", "date", "by", "changed", "facts", "recall", "kept"]]
    print("\n".join(aligned_table([*rows, *(_row(version, version is versions[-1]) for version in versions)])))


def _row(version: Version, current: bool) -> list[str]:
    kept = "current" if current else "no, dropped by gc" if version.folder is None else "yes"
    date, note = (version.date or "not known").replace("T", " "), version.note or "not known"
    changed = "not known" if version.difference is None else str(version.difference)
    recall = "not measured" if version.recall is None else f"{version.recall:.0%}"
    return [
        str(version.number),
        date,
        note,
        changed,
        "?" if version.facts is None else str(version.facts),
        recall,
        kept,
    ]


def rollback(argv: list[str]) -> None:
    """Brings an earlier version of a memory back."""
    parser = Options(
        "rollback",
        "Brings an earlier version of a memory back, as a new version that equals it byte for byte: the history only grows. "
        "Nothing is trained or copied.",
        "BANK NAME VERSION",
    )
    _add_memory(parser)
    parser.add_argument(
        "version", metavar="VERSION", type=int, help="its number; `lorary history BANK NAME` shows them"
    )
    options = parser.parse_args(argv)
    from lorary.bank.upkeep import roll_back

    version = roll_back(options.bank, options.name, options.version)
    print(f"{options.name}: version {version.number} is what version {options.version} was")


def _verify_options(argv: list[str]) -> Namespace:
    parser = Options(
        "verify",
        "Reads every file of every version in a bank or composite and compares its sha256 with the manifest's, and says what "
        "stopped writers left. --deep also measures the certificates again on the base: recall under the same wordings, "
        "failing facts, damage. --forgotten proves a forgetting again: the memories are asked for the facts as `lorary forget` "
        "asks, and all files are searched for them. Nothing is changed. It fails where a file is missing or damaged, a "
        "certificate differs, or a forgotten fact is still known, told or held.",
        "BANK",
    )
    parser.add_argument("bank", metavar="BANK", help="folder of the bank or composite")
    parser.add_argument("--deep", action="store_true", help="measure the certificates again, which loads the base")
    parser.add_argument(
        "--forgotten",
        metavar="FACTS",
        nargs="*",
        help="JSONL of facts that were forgotten, their topics the memories that held them; without a file, those that "
        "earlier versions still hold; loads the base",
    )
    parser.add_argument(
        "--everywhere", action="store_true", help="ask every memory for them, not only those that held them"
    )
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="seed for the generated wordings of the proof")
    parser.add_quiet()
    parser.add_json("what was found")
    options = parser.parse_args(argv)
    if options.everywhere and options.forgotten is None:
        parser.error("--everywhere asks for forgotten facts; give --forgotten, too")
    return options


def verify(argv: list[str]) -> None:
    """Reads what a bank vouches for."""
    options = _verify_options(argv)
    from lorary.bank.files import BankError
    from lorary.bank.upkeep import verify as run
    from lorary.memories.choosing import ForgettingError
    from lorary.memories.forgetting_command import audit_failed, audit_lines, forgotten_still
    from lorary.memories.verifying import verify_certificates

    found = run(options.bank)
    if not options.json:
        print("\n".join(_found(options.bank, found)))
    if found.faults:
        if options.json:
            print_json(asdict(found))
        raise BankError(
            f"{counted(len(found.faults), 'file')} of {options.bank} cannot be vouched for: {', '.join(found.faults)}; restore "
            "them, roll the memory back, or build it again"
        )
    measured, differing = verify_certificates(options.bank, quiet=options.quiet) if options.deep else ([], [])
    left = None
    if options.forgotten is not None:
        settings = {"everywhere": options.everywhere, "seed": options.seed, "quiet": options.quiet}
        left = forgotten_still(options.bank, options.forgotten, **settings)
    if options.json:
        deep = {"measured": measured, "differing": [asdict(figure) for figure in differing]} if options.deep else {}
        forgotten = {} if left is None else {"forgotten": left.to_json()}
        print_json({**asdict(found), **deep, **forgotten})
    else:
        if options.deep:
            print("\n".join([*map(str, differing), f"{counted(len(measured), 'certificate')} measured again"]))
        if left is not None:
            print("\n".join(audit_lines(options.bank, left)))
    if left is not None and not left.holds:
        raise ForgettingError(audit_failed(options.bank, left))
    if differing:
        names = dict.fromkeys(figure.memory for figure in differing)
        raise BankError(
            f"the certificates of {', '.join(names)} differ from what is measured now; build these memories again, or mind "
            "that another machine or another version of torch may round otherwise"
        )


def _found(bank: str, found: Verified) -> list[str]:
    """What was found of a bank's files, for people."""
    return [
        f"{counted(found.files, 'file')}, {found.bytes:,} bytes are what {bank}/bank.json says",
        *(f"{path}: no version names it; `lorary gc {bank}` removes it" for path in found.orphans),
        *(f"{path}: {fault}" for path, fault in found.faults.items()),
    ]


def gc(argv: list[str]) -> None:
    """Drops earlier versions."""
    parser = Options(
        "gc",
        "Drops the earlier versions of all memories of a bank or composite, and what stopped writers left there. The current "
        "versions stay as they are; the history still tells the others.",
        "BANK",
    )
    parser.add_argument("bank", metavar="BANK", help="folder of the bank or composite")
    parser.add_json("what was freed")
    options = parser.parse_args(argv)
    from lorary.bank.upkeep import collect_garbage

    freed = collect_garbage(options.bank)
    if options.json:
        print_json(asdict(freed))
    else:
        print(f"{counted(freed.versions, 'earlier version')} dropped, {freed.bytes:,} bytes freed")
