"""The commands that need every folder: `remember`, which fills a bank, and the `demo`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lorary.errors import LoraryError
from lorary.options import Options, taken
from lorary.printing import print_json

if TYPE_CHECKING:
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
    parser.add_argument("--base", metavar="NAME", help="another base than the embedded one")
    options = parser.parse_args(argv)
    import lorary.memories
    from lorary.demo import demo as run

    shipped = Path(str(lorary.memories.__file__)).parent / "samples"
    sources = sorted(Path(options.samples or shipped).glob("*.jsonl"))
    if not sources:
        raise LoraryError(f"{options.samples} holds no file of facts; give a folder with a JSONL file for each topic")
    chosen = sources if options.full or options.samples else sources[::2]
    quick = not (options.full or options.samples)
    run(options.out, fresh=options.fresh, sources=chosen, base=options.base, quick=quick)
