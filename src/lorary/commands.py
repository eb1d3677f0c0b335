"""The commands that need every folder: `remember`, which fills a bank, `mcp`, whose tools do, and the `demo`."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorary.errors import LoraryError
from lorary.options import Options, taken
from lorary.printing import print_json

if TYPE_CHECKING:
    from lorary.base.loading import Base
    from lorary.memories.placing import Places


def remember(argv: list[str]) -> None:
    """Puts what is told, or what files hold, into a bank."""
    from lorary.intake.command import add_generator, notes_of

    parser = Options(
        "remember",
        "Puts sentences, or what files and folders hold, into a bank in one step: what `lorary facts` makes of them, "
        "`lorary update` writes. A sentence goes to the memory that asks for it already, whose facts are about the same, or "
        "that is near by meaning, else to `notes`; it is told which, and why. A bank that does not stand there yet is "
        "started. A sentence in which no fact is found is kept as text.",
        'BANK "SENTENCE" | SOURCE ...',
    )
    parser.add_argument("bank", metavar="BANK", help="folder of the bank")
    parser.add_argument("told", metavar="SOURCE", nargs="+", help="a sentence, or a file or folder that `facts` reads")
    parser.add_argument(
        "--topic",
        metavar="NAME",
        help="its memory; by default each file's own, and for a sentence the one that it belongs to",
    )
    parser.add_argument("--base", metavar="NAME", help="base of a new bank; by default the embedded one")
    add_generator(parser)
    parser.add_check_base()
    parser.add_quiet()
    parser.add_json("what was changed, left out and noted")
    options = parser.parse_args(argv)
    from lorary.intake.generators import generator_named
    from lorary.intake.told import gather_told
    from lorary.memories.building import started
    from lorary.memories.keeping import change_lines
    from lorary.memories.updating import update

    generator = generator_named(options.generator, **taken(options, "endpoint", "model"))
    places = _places(options.bank)
    held = places.held if places else {}
    gathered = gather_told(
        options.told, options.topic, generator=generator, place=places, held=held, quiet=options.quiet
    )
    placed = [*places.placed] if places else []
    started(options.bank, options.base)
    changes = update(
        options.bank,
        {source.topic: source.facts for source in gathered.sources if source.facts},
        {source.topic: source.passages for source in gathered.sources if source.passages},
        check_base=options.check_base,
        quiet=options.quiet,
    )
    if options.json:
        left = [asdict(item) for item in gathered.left_out]
        told = {"placed": [asdict(own) for own in placed], "left_out": left, "notes": list(gathered.notes)}
        print_json({"changes": [asdict(change) for change in changes], **told})
    else:
        lines = [*map(str, placed), *notes_of(gathered), *(line for change in changes for line in change_lines(change))]
        print("\n".join([*lines, f"bank: {options.bank}"]))
        print(
            f"next: `lorary train-router {options.bank} --out COMPOSITE`, or `lorary refresh COMPOSITE {options.bank}`"
        )


def _places(bank: str) -> Places | None:
    """What finds the memory of what is told; None where no bank stands there yet."""
    from lorary.bank.bank import MemoryBank
    from lorary.bank.files import MANIFEST
    from lorary.intake.told import NOTES
    from lorary.memories.placing import Places
    from lorary.routing.encoder import load_encoder

    if not (Path(bank) / MANIFEST).exists():
        return None
    opened = MemoryBank.load(bank)
    return Places(opened, load_encoder(opened.encoder), NOTES)


class BankWriter:
    """Writes for agents what they remember and forget, into a bank and the composite that was made of it.

    Args:
        bank: its folder.
        composite: the folder that takes the changes up; None where there is none.
    """

    def __init__(self, bank: str, composite: str | None) -> None:
        self.bank, self.composite = bank, composite

    def remember(
        self, base: Base, memory: str | None, facts: list[dict[str, Any]], sentences: list[str]
    ) -> dict[str, Any]:
        """Writes facts and sentences; returns `changes` and `notes`. No file is read, whatever a sentence says."""
        from lorary.bank.facts import parse_fact
        from lorary.intake.generators import generator_named
        from lorary.intake.told import told
        from lorary.memories.updating import update

        given = [parse_fact(fact, topic=memory or "", where=f"facts.{n}") for n, fact in enumerate(facts)]
        topics = {memory: given} if memory is not None and given else {}
        documents, notes = {}, list[str]()
        if sentences:
            gathered = told(sentences, memory, generator=generator_named("auto"), place=_places(self.bank))
            notes = [*gathered.notes, *(f"left out: {item.what!r}, {item.why}" for item in gathered.left_out)]
            for source in gathered.sources:
                topics[source.topic] = [*topics.get(source.topic, []), *source.facts]
                documents[source.topic] = source.passages
        topics = {topic: own for topic, own in topics.items() if own}
        changes = update(self.bank, topics, {t: own for t, own in documents.items() if own}, base=base, quiet=True)
        self._take_up()
        return {"changes": [asdict(change) for change in changes], "notes": notes}

    def forget(self, base: Base, memory: str, facts: list[str] | None) -> dict[str, Any]:
        """Forgets facts of a memory, or all of it, and proves it."""
        from lorary.memories.forgetting import forget

        forgotten = forget(self.bank, memory, facts, base=base, quiet=True)
        self._take_up()
        return forgotten.to_json()

    def _take_up(self) -> None:
        from lorary.model.refreshing import refresh

        if self.composite is not None:
            refresh(self.composite, self.bank)


def mcp(argv: list[str]) -> None:
    """Gives a composite to agents as tools."""
    parser = Options(
        "mcp",
        "Gives a composite, or a bank without a trained router, to agents as tools of the Model Context Protocol: recall, "
        "which_memory, list_memories, and with --allow-write remember and forget. By default over standard input and output, as "
        "clients start it; with --http at /mcp, for this machine alone.",
        "COMPOSITE",
    )
    parser.add_argument("composite", metavar="COMPOSITE", help="folder of the composite, or of a bank")
    parser.add_argument("--allow-write", action="store_true", help="also offer the tools that change memories on disk")
    parser.add_argument(
        "--bank", metavar="BANK", help="the bank that the composite was made from, which --allow-write changes"
    )
    parser.add_argument("--base", metavar="NAME", help="where the base is, if not where the composite says")
    parser.add_argument("--max-new-tokens", metavar="N", type=int, default=64, help="length of the longest answer")
    parser.add_argument("--http", action="store_true", help="listen for HTTP instead of standard input")
    parser.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="to listen at; another needs a key")
    parser.add_argument("--port", metavar="N", type=int, default=8001, help="port to listen at; 0 picks a free one")
    parser.add_argument("--api-key", metavar="KEY", help="key that requests must bring; LORARY_API_KEY by default")
    options = parser.parse_args(argv)
    from contextlib import ExitStack, redirect_stdout

    from lorary.serving.access import check_exposure
    from lorary.serving.listening import listener
    from lorary.serving.mcp_listening import run_http, run_stdio

    api_key = options.api_key or os.environ.get("LORARY_API_KEY") or None
    if options.http:
        check_exposure(options.host, api_key)
    with ExitStack() as stack:
        place = stack.enter_context(listener(options.host, options.port)) if options.http else None
        with redirect_stdout(sys.stderr):  # what loading says is no part of the protocol
            server = _mcp_server(options)
        run_stdio(server) if place is None else run_http(server, place, options.host, api_key)


def _mcp_server(options: Namespace) -> Any:
    """The server with its tools."""
    from lorary.model.composite import load_composite
    from lorary.model.untrained import is_bare_bank, load_untrained
    from lorary.serving.following import opened
    from lorary.serving.mcp import Loaded, make_server

    if options.max_new_tokens < 1:
        raise LoraryError(f"--max-new-tokens {options.max_new_tokens} leaves no room for an answer; give 1 or more")
    bare = is_bare_bank(options.composite)
    if options.allow_write and not bare and options.bank is None:
        raise LoraryError(
            f"{options.composite} is a composite, and memories are written in the bank that it was made from; give --bank BANK"
        )
    if options.bank is not None and (bare or not options.allow_write):
        raise LoraryError("--bank names what --allow-write changes for a composite; leave it out")
    load = load_untrained if bare else load_composite
    place = Path(options.composite)
    model, stamp = opened(place, lambda: load(options.composite, **taken(options, "base")))
    writer = None
    if options.allow_write:
        writer = BankWriter(options.composite, None) if bare else BankWriter(options.bank, options.composite)
    return make_server(Loaded(place, model, stamp), writer, max_new_tokens=options.max_new_tokens)


def demo(argv: list[str]) -> None:
    """Runs the demo."""
    parser = Options(
        "demo",
        "Writes the memories of four shipped topics, trains a gate, scores the composite, and asks five questions. The first "
        "memory answers as soon as it is written.",
        "",
    )
    parser.add_argument("--out", metavar="FOLDER", default="runs/demo", help="folder of the run")
    parser.add_argument("--full", action="store_true", help="all eight shipped topics, written without haste")
    parser.add_argument("--fresh", action="store_true", help="reuse nothing of an earlier run")
    parser.add_argument("--samples", metavar="FOLDER", help="facts to use instead of the shipped ones, all of them")
    parser.add_argument("--base", metavar="NAME", help="another base than the default, such as embedded:gemma3-270m")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of the writing and of the gate's training")
    options = parser.parse_args(argv)
    import lorary.memories
    from lorary.demo import demo as run

    shipped = Path(str(lorary.memories.__file__)).parent / "samples"
    sources = sorted(Path(options.samples or shipped).glob("*.jsonl"))
    if not sources:
        raise LoraryError(f"{options.samples} holds no file of facts; give a folder with a JSONL file for each topic")
    chosen = sources if options.full or options.samples else sources[::2]
    quick = not (options.full or options.samples)
    run(options.out, fresh=options.fresh, sources=chosen, base=options.base, quick=quick, seed=options.seed)
