"""The studies behind the project's numbers, as `lorary research NAME [options]`."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lorary.options import Options, made, taken
from lorary.printing import print_json
from lorary.research.settings import ARMS, RIVALS, SET_NAMES, VARIED, Budget, Design, Grid
from lorary.router_training.settings import Training
from lorary.tables import counted

_BASE = "base to measure on: a hub id or a local folder; by default the embedded one"
_NEVER = "a run that was stopped goes on there, and a run of other settings is never overwritten"
_PROCESSES = "processes that write memories side by side; by default one a core"


def capacity(argv: list[str]) -> None:
    """Measures how much a memory of each rank holds."""
    parser = Options(
        "research capacity",
        "Measures how many facts a memory of each rank recalls. Writes memories of invented facts, each fact shown equally "
        "often whatever the load, and tells the knee: the largest load that is still recalled.",
        "--out FOLDER",
    )
    _add_folder(parser, "results.json, report.md and recall.png")
    parser.add_argument("--base", metavar="NAME", help=_BASE)
    parser.add_argument("--processes", type=int, metavar="N", help=_PROCESSES)
    parser.add_quiet()
    parser.add_json("the results")
    parser.add_record(Grid, "what is measured")
    options = parser.parse_args(argv)
    grid = made(Grid, options)
    from lorary.research.capacity import measure_capacity, tell_capacity

    study = measure_capacity(options.out, grid=grid, **taken(options, "base", "processes", "quiet"))
    _print(options, study.to_json, lambda: f"{tell_capacity(study)}\nstudy: {options.out}")


def wordings(argv: list[str]) -> None:
    """Measures what the texts of a fact add to its recall."""
    parser = Options(
        "research wordings",
        "Measures what the number of wordings of a fact, the format of its texts and who words its questions add to its "
        "recall under held-out wordings. Each fact is shown equally often whatever its texts. The default run writes 36 "
        "memories of 32 facts, in about 30 minutes on two idle cores with AVX512-BF16.",
        "--out FOLDER",
    )
    _add_folder(parser, "results.json, report.md and recall.png")
    facts = "facts to train on: JSONL files or folders of them; by default the sample facts"
    parser.add_argument("--facts", nargs="+", metavar="FILE", help=facts)
    parser.add_argument("--base", metavar="NAME", help=_BASE)
    parser.add_argument("--processes", type=int, metavar="N", help=_PROCESSES)
    parser.add_quiet()
    parser.add_json("the results")
    parser.add_record(Design, "what is measured")
    options = parser.parse_args(argv)
    design = made(Design, options)
    from lorary.research.wording_results import tell_wordings
    from lorary.research.wording_study import measure_wordings

    study = measure_wordings(options.out, design=design, **taken(options, "facts", "base", "processes", "quiet"))
    _print(options, study.to_json, lambda: f"{tell_wordings(study)}\nstudy: {options.out}")


def route_bench(argv: list[str]) -> None:
    """Measures routers on generated sets."""
    parser = Options(
        "research route-bench",
        "Measures routers on generated sets of facts, under wordings that nothing was fitted to. No memory is written.",
        "--out FOLDER",
    )
    _add_folder(parser, "results.json and report.md")
    parser.add_argument("--seeds", type=int, metavar="N", default=3, help="seeds to measure")
    first = "first of the seeds; give 3 or more to choose features by, since 0 to 2 make the reported figures"
    parser.add_argument("--first-seed", type=int, metavar="N", default=0, help=first)
    sets = f"sets of facts to measure on: {', '.join(SET_NAMES)}"
    parser.add_argument("--sets", nargs="+", metavar="NAME", default=[*SET_NAMES], help=sets)
    folds = "seeds that each draw wordings to leave out, in place of those held out: to choose features by"
    parser.add_argument("--folds", type=int, nargs="+", metavar="N", default=[], help=folds)
    encoder = "sentence encoder to route by: a hub id or a local folder; by default the embedded one"
    parser.add_argument("--encoder", metavar="NAME", help=encoder)
    base = "base whose hidden state at the split further gates read, which takes minutes more: a hub id or a folder"
    parser.add_argument("--base", metavar="NAME", help=base)
    parser.add_json("the figures")
    parser.add_record(
        Training, "how the gates are calibrated", skip=set(Training.__dataclass_fields__) - {"unknown_names"}
    )
    options = parser.parse_args(argv)
    training = Training(unknown_names=options.unknown_names)
    from lorary.base.loading import load_base
    from lorary.research.route_bench import route_bench as run
    from lorary.research.route_bench_report import tell_routing
    from lorary.routing.encoder import load_encoder

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    results = run(
        options.out,
        **taken(options, "seeds", "first_seed", "sets", "folds"),
        training=training,
        encoder=load_encoder(options.encoder) if options.encoder is not None else None,
        base=load_base(options.base) if options.base is not None else None,
    )
    _print(options, lambda: results["sets"], lambda: tell_routing(results))


def route_facts(argv: list[str]) -> None:
    """Writes the facts of a generated set."""
    parser = Options(
        "research route-facts",
        "Writes the facts of one of `lorary research route-bench`'s sets, to build a bank of.",
        "SET --out FILE",
    )
    parser.add_argument("set", choices=SET_NAMES, help="set to draw from")
    out = "JSONL file to write; a file that holds something else is never overwritten"
    parser.add_argument("--out", metavar="FILE", required=True, help=out)
    count = "facts to draw of each topic; by default all"
    parser.add_argument("--facts-a-topic", type=int, metavar="N", help=count)
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="seed for the set and for what is drawn of it")
    parser.add_json("the counts")
    options = parser.parse_args(argv)
    from lorary.research.fact_sets import drawn, write_facts

    facts = drawn(options.set, options.seed, options.facts_a_topic)
    write_facts(facts, Path(options.out))
    counts = {"facts": len(facts), "topics": len({fact.topic for fact in facts}), "out": options.out}
    told = f"{counted(len(facts), 'fact')} of {counted(len({fact.topic for fact in facts}), 'topic')}: {options.out}"
    _print(options, lambda: counts, lambda: told)


def gate_study(argv: list[str]) -> None:
    """Measures what joint training of the gate is worth on a bank."""
    parser = Options(
        "research gate-study",
        "Trains gates on one bank by labels, by the language-model loss, by both and by soft labels, and puts PEFT's X-LoRA "
        "and Arrow beside them.",
        "BANK --out FOLDER",
    )
    parser.add_argument("bank", metavar="BANK", help="folder of the bank or composite to train gates on")
    _add_folder(parser, "results.json and report.md")
    parser.add_argument("--seeds", type=int, metavar="N", default=3, help="seeds to train with, from 0")
    arms = f"what to train gates by: {', '.join(ARMS)}; no name for none"
    parser.add_argument("--arms", nargs="*", metavar="NAME", default=[*ARMS], help=arms)
    rivals = f"PEFT's routers to measure beside the gates: {', '.join(RIVALS)}; no name for none"
    parser.add_argument("--rivals", nargs="*", metavar="NAME", default=[*RIVALS], help=rivals)
    unrelated = "JSONL of questions that no memory answers, to train and calibrate on; by default the shipped ones"
    parser.add_argument("--unrelated", metavar="FILE", help=unrelated)
    parser.add_quiet()
    parser.add_json("the figures")
    parser.add_record(Training, "how the gates are trained", skip=VARIED)
    options = parser.parse_args(argv)
    training = made(Training, options, skip=VARIED)
    from lorary.research.gate_study import gate_study as run
    from lorary.research.gate_study_report import tell_gates

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    passed = taken(options, "out", "seeds", "arms", "rivals", "unrelated", "quiet")
    results = run(options.bank, training=training, **passed)
    shown = {name: results[name] for name in ("routers", "differences", "rivals", "counts")}
    _print(options, lambda: shown, lambda: tell_gates(results))


def rivals(argv: list[str]) -> None:
    """Lets PEFT's X-LoRA or Arrow answer questions over the memories of a bank."""
    parser = Options(
        "research rivals",
        "Lets PEFT's X-LoRA or Arrow, over the memories of a bank, answer questions: greedily, with the prompt and the "
        "longest answer that `lorary recall` gives the memories. Writes a line a question and, under the same name with "
        ".json, what the run took. `lorary recall --answers NAME=FILE` scores the answers beside the others.",
        "BANK --rival NAME --out FILE",
    )
    parser.add_argument("bank", metavar="BANK", help="folder of the bank or composite to answer from")
    parser.add_argument("--rival", metavar="NAME", required=True, help=f"router to run: {' or '.join(RIVALS)}")
    parser.add_argument("--out", metavar="FILE", required=True, help=f"JSONL file to write the answers to; {_NEVER}")
    questions = "JSONL of questions to ask, as `lorary recall` takes it; by default the bank's held-out wordings"
    parser.add_argument("--questions", metavar="FILE", help=questions)
    seed = "seed for X-LoRA's first weights and order of rows, and for Arrow's search"
    parser.add_argument("--seed", type=int, metavar="N", default=0, help=seed)
    parser.add_quiet()
    parser.add_json("what the run took")
    parser.add_record(Budget, "how X-LoRA is trained")
    options = parser.parse_args(argv)
    budget = made(Budget, options)
    from lorary.research.rival_answers import rival_answers

    passed = taken(options, "rival", "out", "questions", "seed", "quiet")
    took = rival_answers(options.bank, budget=budget, **passed)
    if options.json:
        print_json(took)
        return
    steps = f"trained {took['seconds_training']:.0f} s ({counted(took['steps'], 'step')}), " if "steps" in took else ""
    print(
        f"{options.rival}: {steps}{counted(took['questions'], 'question')} answered in {took['seconds_answering']:.0f} s"
    )
    print(f"answers: {options.out}")


def _print(options: Namespace, content: Callable[[], Any], text: Callable[[], str]) -> None:
    """Prints what a study found: as JSON where that is asked for, else as text."""
    if options.json:
        print_json(content())
    else:
        print(text())


def _add_folder(parser: Options, files: str) -> None:
    parser.add_argument("--out", metavar="FOLDER", required=True, help=f"folder to write {files} into; {_NEVER}")


STUDIES: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "capacity": (capacity, "measure how many facts a memory of each rank recalls"),
    "wordings": (wordings, "measure what wordings, formats and generators of a fact's texts add to its recall"),
    "route-bench": (route_bench, "measure routers on generated sets of facts; no memory is written"),
    "route-facts": (route_facts, "write the facts of a generated set, to build a bank of"),
    "gate-study": (gate_study, "measure what labels and the language-model loss teach a gate"),
    "rivals": (rivals, "let PEFT's X-LoRA or Arrow answer questions over a bank"),
}
"""Name → (what runs its command line, what it is for)."""
