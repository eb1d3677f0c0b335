"""The commands `forget`, which proves what it forgets, and `refresh`, by which a composite takes changes of its bank up."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from lorary.options import Options
from lorary.printing import print_json
from lorary.tables import counted, left_aligned

if TYPE_CHECKING:
    from lorary.bank.memory import Memory
    from lorary.memories.auditing import Audit
    from lorary.memories.forgetting import Forgotten
    from lorary.model.refreshing import Refreshed, Routed


def refresh(argv: list[str]) -> None:
    """Lets a composite take up what has changed in its bank."""
    parser = Options(
        "refresh",
        "Lets a composite take up what has changed in its bank: new memories get a key in the gate, changed ones a new key, "
        "and those that have left the bank leave. The gate is not trained and its thresholds stay, so a few changes cost "
        "little; it tells how many of the bank's validation wordings still reach their memory. The base is not loaded.",
        "COMPOSITE BANK",
    )
    parser.add_argument("composite", metavar="COMPOSITE", help="folder of the composite")
    parser.add_argument("bank", metavar="BANK", help="folder of the bank that it was made from")
    reset = (
        "also forget what training taught the gate of the memories: its projection and keys start anew from the facts"
    )
    parser.add_argument("--reset", action="store_true", help=reset)
    parser.add_json("what was taken up, and how it routes")
    options = parser.parse_args(argv)
    from lorary.model.refreshing import refresh as run

    refreshed = run(options.composite, options.bank, reset=options.reset)
    if options.json:
        print_json(refreshed.to_json())
        return
    print(_told(refreshed))
    if refreshed.changed or options.reset:
        print(f"the gate was not trained: lorary train-router {options.bank} --out {options.composite} trains it anew")


def _told(refreshed: Refreshed) -> str:
    """What was taken up and how it routes, for people."""
    changes = {name: getattr(refreshed, name) for name in ("added", "updated", "removed")}
    lines = [f"{name}: {', '.join(names)}" for name, names in changes.items() if names]
    if not lines:
        lines = ["nothing to take up"]
    before = "" if refreshed.before == refreshed.after else f"; before, {_routing(refreshed.before)}"
    return "\n".join([*lines, f"{_routing(refreshed.after)}{before}"])


def _routing(routed: Routed) -> str:
    if routed.top1 is None:
        return "the routing was not measured"
    return f"{routed.top1:.3f} of {counted(routed.wordings, 'validation wording')} reach their memory"


def forget(argv: list[str]) -> None:
    """Forgets facts of a memory, and proves it."""
    parser = Options(
        "forget",
        "Forgets a memory, or some of its facts: the memory is written anew from the rest, as if it had never known them, and "
        "its documents lose the passages that tell them. Then the memory is asked for them in all their wordings, generated "
        "ones included, and must know them no better than the base does, and no better than facts that it never knew. It "
        "fails, and lists them, where it does, or where something else in the bank still tells them.\n\n"
        "The same command finishes what was stopped, and proves it again where all was done. "
        "Earlier versions stay until `lorary gc BANK`, and composites know the facts until `lorary refresh COMPOSITE BANK`. "
        "Copies elsewhere, such as backups and the files that the memory was built from, are yours to remove.",
        "BANK NAME [--facts ID ... | --about TEXT]",
    )
    parser.add_argument("bank", metavar="BANK", help="folder of the bank")
    parser.add_argument("name", metavar="NAME", help="name of the memory; `lorary list BANK` shows them")
    which = parser.add_mutually_exclusive_group()
    ids = "ids of the facts to forget; `lorary list BANK --facts` shows them; by default the whole memory"
    which.add_argument("--facts", metavar="ID", nargs="+", help=ids)
    which.add_argument("--about", metavar="TEXT", help="forget the facts that are about this, which are shown first")
    parser.add_argument("--yes", action="store_true", help="do not ask whether the facts shown are meant")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="seed for the generated wordings of the proof")
    parser.add_quiet()
    parser.add_json("what was forgotten, and the proof")
    options = parser.parse_args(argv)
    from lorary.bank.bank import MemoryBank
    from lorary.memories.choosing import ForgettingError
    from lorary.memories.forgetting import forget as run
    from lorary.memories.forgotten import has_left

    facts = options.facts
    if options.about is not None and not has_left(options.bank, options.name):
        facts = _meant(MemoryBank.load(options.bank)[options.name], options)
    forgotten = run(options.bank, options.name, facts, seed=options.seed, quiet=options.quiet)
    if options.json:
        print_json(forgotten.to_json())
    else:
        print(_proved(forgotten))
        print(f"next: lorary gc {options.bank} drops earlier versions; lorary refresh COMPOSITE {options.bank}")
        print(
            f"later: lorary verify {options.bank} --forgotten FACTS proves it again, with a file of the facts that you keep"
        )
    if not forgotten.holds:
        raise ForgettingError(_failed(forgotten))


def _meant(memory: Memory, options: Namespace) -> list[str]:
    """The ids of the facts that are about a text, once a person who sees them agrees."""
    from lorary.bank.bank import MemoryBank
    from lorary.memories.choosing import ForgettingError, about
    from lorary.memories.forgotten import forgotten_before
    from lorary.routing.encoder import load_encoder

    # Facts that a call forgot before are found, too: where it was stopped, the same text is to mean the same facts.
    facts = (*forgotten_before(options.bank, memory.name).facts, *memory.facts)
    found = about(facts, options.about, load_encoder(MemoryBank.load(options.bank).encoder))
    near = [pair for pair in found if pair[0] in memory.facts] or found
    if not near:
        raise ForgettingError(
            f"no fact of {memory.name!r} is about {options.about!r}; `lorary list {options.bank} --facts` shows its "
            f"{counted(len(memory.facts), 'fact')}, and --facts takes their ids"
        )
    rows = [["id", "near", "question", "answer"]]
    rows += [[fact.id, f"{score:.2f}", fact.question, fact.answer] for fact, score in near]
    print("\n".join(left_aligned(rows)), file=sys.stderr)
    if not options.yes:
        if not sys.stdin.isatty():
            raise ForgettingError("facts that are found by --about need a yes; give --yes, or their ids by --facts")
        print(f"forget these {counted(len(near), 'fact')}? [y/N] ", end="", file=sys.stderr, flush=True)
        if input().strip().lower() not in ("y", "yes"):
            raise ForgettingError("nothing was forgotten; give the ids of some of the facts by --facts")
    return [fact.id for fact, _ in near]


def _proved(forgotten: Forgotten) -> str:
    """What was forgotten and what the proof found, for people."""
    from lorary.memories.proof_report import proof_lines

    if forgotten.before and forgotten.left:
        return f"{forgotten.memory}: forgotten before; it has left the bank with all its versions"
    before = " before; this is the proof again" if forgotten.before else ""
    lines = [f"{forgotten.memory}: {counted(len(forgotten.facts), 'fact')} forgotten{before}"]
    if forgotten.passages:
        lines.append(f"{counted(len(forgotten.passages), 'passage')} dropped that told them:")
        lines += [f"  {passage.text}" for passage in forgotten.passages]
    if forgotten.left:
        lines.append(f"{forgotten.memory} holds nothing more, and left the bank; the base alone is asked now")
    if (proof := forgotten.proof) is not None:
        lines += ["", *proof_lines(proof)]
    lines += [f"still told by {told.memory}: {told.text}" for told in forgotten.told]
    return "\n".join(lines)


def _failed(forgotten: Forgotten) -> str:
    """Why a proof does not hold, and what to do."""
    from lorary.memories.proof_report import why_not

    reasons = [] if forgotten.proof is None else why_not(forgotten.memory, forgotten.proof)
    if forgotten.told:
        reasons.append(f"the bank still tells {', '.join(sorted({told.id for told in forgotten.told}))}")
    return f"not all is forgotten: {'; '.join(reasons)}; forget what tells them, too, or the whole memory"


def forgotten_still(folder: str, files: list[str], *, everywhere: bool, seed: int, quiet: bool) -> Audit:
    """What a bank or composite still has of the facts in files, or of those that earlier versions hold where none is given."""
    from lorary.bank.facts import read_facts
    from lorary.memories.auditing import audit

    facts = [fact for file in files for fact in read_facts(file)] if files else None
    return audit(folder, facts, everywhere=everywhere, seed=seed, quiet=quiet)


def audit_lines(folder: str, found: Audit) -> list[str]:
    """What is left of forgotten facts, for people."""
    from lorary.memories.proof_report import proof_lines

    asked = "earlier versions hold" if found.from_earlier else "the files hold"
    lines = [f"{counted(len(found.facts), 'forgotten fact')} that {asked}"]
    for name, proof in found.proofs.items():
        lines += ["", f"{name}:", *proof_lines(proof)]
    lines += [
        f"{name}: left the bank, or is the name of no memory there, so there is no adapter to ask; --everywhere asks the others"
        for name in dict.fromkeys(fact.topic for fact in found.unasked)
    ]
    lines += [f"still told by {told.memory}: {told.text}" for told in found.told]
    lines += [f"still held by {path}: {texts[0]}" for path, texts in found.held.items()]
    if found.earlier:
        lines.append(f"earlier versions still hold them, until `lorary gc {folder}`: {', '.join(found.earlier)}")
    if not found.holds:
        return [*lines, "not all is forgotten"]
    if found.unasked:
        return [*lines, f"nothing tells or holds them; no memory was asked for {counted(len(found.unasked), 'fact')}"]
    return [*lines, "nothing knows, tells or holds them"]


def audit_failed(folder: str, found: Audit) -> str:
    """Why facts are not forgotten, and what to do."""
    from lorary.memories.proof_report import why_not

    reasons = [reason for name, proof in found.proofs.items() for reason in why_not(name, proof)]
    if found.told:
        reasons.append(f"the bank still tells {', '.join(sorted({told.id for told in found.told}))}")
    if found.held:
        reasons.append(f"{', '.join(found.held)} still {'holds' if len(found.held) == 1 else 'hold'} them")
    if found.earlier and not found.from_earlier:
        reasons.append(f"earlier versions hold them until `lorary gc {folder}`")
    return f"not all is forgotten: {'; '.join(reasons)}; forget them, or what tells them, by `lorary forget`"
