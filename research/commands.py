"""The studies behind the project's numbers, as `lorary research NAME [options]`."""

from __future__ import annotations

import logging
from collections.abc import Callable

from lorary.memories.recipe import Recipe
from lorary.options import Options, made, taken
from lorary.printing import print_json
from lorary.research.bench_settings import WriteBench
from lorary.research.intake_commands import generators
from lorary.research.options import BASE, NEVER, add_folder, print_study
from lorary.research.routing_commands import joint_study, refresh, route_bench, route_facts, routes, token_study
from lorary.research.settings import ANSWERING, ARMS, RIVALS, VARIED, Budget, Design, Forgetting, Grid, Uses
from lorary.research.speed_commands import bank_bench, bench, serve_bench, start_bench, token_cost
from lorary.router_training.settings import Training
from lorary.tables import counted

_PROCESSES = "processes that write memories side by side; by default one a core"


def capacity(argv: list[str]) -> None:
    """Measures how much a memory of each rank holds."""
    parser = Options(
        "research capacity",
        "Measures how many facts a memory of each rank recalls. Writes memories of invented facts, each fact shown equally "
        "often whatever the load, and tells the knee: the largest load that is still recalled.",
        "--out FOLDER",
    )
    add_folder(parser, "results.json, report.md and recall.png")
    parser.add_argument("--base", metavar="NAME", help=BASE)
    parser.add_argument("--processes", type=int, metavar="N", help=_PROCESSES)
    parser.add_quiet()
    parser.add_json("the results")
    parser.add_record(Grid, "what is measured")
    options = parser.parse_args(argv)
    grid = made(Grid, options)
    from lorary.research.capacity import measure_capacity, tell_capacity

    study = measure_capacity(options.out, grid=grid, **taken(options, "base", "processes", "quiet"))
    print_study(options, study.to_json, lambda: f"{tell_capacity(study)}\nstudy: {options.out}")


def wordings(argv: list[str]) -> None:
    """Measures what the texts of a fact add to its recall."""
    parser = Options(
        "research wordings",
        "Measures what the number of wordings of a fact, the format of its texts and who words its questions add to its "
        "recall under held-out wordings. Each fact is shown equally often whatever its texts. The default run writes 36 "
        "memories of 32 facts, in about 30 minutes on two idle cores with AVX512-BF16.",
        "--out FOLDER",
    )
    add_folder(parser, "results.json, report.md and recall.png")
    facts = "facts to train on: JSONL files or folders of them; by default the sample facts"
    parser.add_argument("--facts", nargs="+", metavar="FILE", help=facts)
    parser.add_argument("--base", metavar="NAME", help=BASE)
    parser.add_argument("--processes", type=int, metavar="N", help=_PROCESSES)
    parser.add_quiet()
    parser.add_json("the results")
    parser.add_record(Design, "what is measured")
    options = parser.parse_args(argv)
    design = made(Design, options)
    from lorary.research.wording_results import tell_wordings
    from lorary.research.wording_study import measure_wordings

    study = measure_wordings(options.out, design=design, **taken(options, "facts", "base", "processes", "quiet"))
    print_study(options, study.to_json, lambda: f"{tell_wordings(study)}\nstudy: {options.out}")


def uses(argv: list[str]) -> None:
    """Measures what memories are good for."""
    parser = Options(
        "research uses",
        "Measures the uses of memories: the same facts asked directly, by yes or no, reversed, in a longer text and so on, of "
        "the base, a lookup, passages, memories and both. By default it writes three banks a seed, by the "
        "default recipe, with the format `uses` and with each fact turned around, in about half an hour a seed on one core "
        "with AVX512-BF16; `--recipes` chooses among them.",
        "--out FOLDER",
    )
    add_folder(parser, "banks, composites, runs, results.json and report.md")
    parser.add_argument("--base", metavar="NAME", help=BASE)
    parser.add_quiet()
    parser.add_json("the results")
    parser.add_record(Uses, "what is measured")
    options = parser.parse_args(argv)
    study = made(Uses, options)
    from lorary.research.uses_study import tell_uses, uses_study

    results = uses_study(study=study, **taken(options, "out", "base", "quiet"))
    print_study(options, lambda: results, lambda: f"{tell_uses(results)}\nstudy: {options.out}")


def gate_study(argv: list[str]) -> None:
    """Measures what joint training of the gate is worth on a bank."""
    parser = Options(
        "research gate-study",
        "Trains gates on one bank by labels, by the language-model loss, by both and by soft labels, and puts PEFT's X-LoRA "
        "and Arrow beside them.",
        "BANK --out FOLDER",
    )
    parser.add_argument("bank", metavar="BANK", help="folder of the bank or composite to train gates on")
    add_folder(parser, "results.json and report.md")
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
    print_study(options, lambda: shown, lambda: tell_gates(results))


def rivals(argv: list[str]) -> None:
    """Lets PEFT's X-LoRA or Arrow, or multilobe, answer questions over the memories of a bank."""
    parser = Options(
        "research rivals",
        "Lets PEFT's X-LoRA or Arrow, or multilobe, answer questions over the memories of a bank: greedily, with the prompt "
        "and the longest answer that `lorary recall` gives the memories. Writes a line a question and, under the same name with "
        ".json, what the run took. `lorary recall --answers NAME=FILE` scores the answers beside the others.",
        "BANK --rival NAME --out FILE",
    )
    parser.add_argument("bank", metavar="BANK", help="folder of the bank or composite to answer from")
    parser.add_argument("--rival", metavar="NAME", required=True, help=f"router to run: {', '.join(ANSWERING)}")
    parser.add_argument("--out", metavar="FILE", required=True, help=f"JSONL file to write the answers to; {NEVER}")
    questions = "JSONL of questions to ask, as `lorary recall` takes it; by default the bank's held-out wordings"
    parser.add_argument("--questions", metavar="FILE", help=questions)
    seed = "seed for X-LoRA's first weights and order of rows, Arrow's search, and multilobe's wordings"
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


def write_bench(argv: list[str]) -> None:
    """Measures how fast memories are written."""
    parser = Options(
        "research write-bench",
        "Writes memories by `lorary build`, by the recipe that it had before it was made fast, and by PEFT with "
        "transformers' Trainer, in turn in one process: facts a minute, recall of held-out wordings, tokens a second, where "
        "the time goes, and how fast this machine multiplies.",
        "--out FOLDER",
    )
    add_folder(parser, "results.json and report.md")
    facts = "facts to write: JSONL files or folders of them; by default the sample facts"
    parser.add_argument("--facts", nargs="+", metavar="FILE", help=facts)
    parser.add_argument("--base", metavar="NAME", help=BASE)
    parser.add_quiet()
    parser.add_json("the results")
    parser.add_record(WriteBench, "what is measured")
    options = parser.parse_args(argv)
    bench = made(WriteBench, options)
    from lorary.research.wording_study import SAMPLES
    from lorary.research.write_bench import write_bench as run
    from lorary.research.write_bench_report import tell_bench

    results = run(options.out, facts=options.facts or [SAMPLES], bench=bench, **taken(options, "base", "quiet"))
    print_study(options, lambda: results, lambda: f"{tell_bench(results)}\n\nstudy: {options.out}")


def forgetting(argv: list[str]) -> None:
    """Measures what is known of authors, and what is left of one who is forgotten."""
    parser = Options(
        "research forgetting",
        "Builds a bank of invented authors from a file in TOFU's form, a memory each, and measures the base, the policy, a "
        "lookup and passages by TOFU's measures. Then it forgets one author and some facts of another, with the proof, and "
        "measures again.",
        "FILE --out FOLDER",
    )
    parser.add_argument("file", metavar="FILE", help="JSONL with TOFU's fields: author, question, answer and their kin")
    add_folder(parser, "results.json, report.md, the bank and the composite")
    parser.add_argument("--base", metavar="NAME", help=BASE)
    parser.add_quiet()
    parser.add_json("the results")
    parser.add_record(Forgetting, "what is built, asked and forgotten")
    parser.add_record(Recipe, "how memories are written")
    options = parser.parse_args(argv)
    settings, recipe = made(Forgetting, options), made(Recipe, options)
    from lorary.research.forgetting_report import tell_forgetting
    from lorary.research.forgetting_study import forgetting_study

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    passed = taken(options, "out", "base", "quiet")
    results = forgetting_study(options.file, settings=settings, recipe=recipe, **passed)
    print_study(options, lambda: results, lambda: tell_forgetting(results))


STUDIES: dict[str, tuple[Callable[[list[str]], None], str]] = {
    "capacity": (capacity, "measure how many facts a memory of each rank recalls"),
    "wordings": (wordings, "measure what wordings, formats and generators of a fact's texts add to its recall"),
    "uses": (uses, "measure what memories are good for beside a lookup and passages, and what teaching uses adds"),
    "write-bench": (write_bench, "measure how fast memories are written, beside PEFT with Trainer"),
    "start-bench": (start_bench, "measure what commands and imports take to start, beside transformers"),
    "bench": (bench, "measure what tokens, prompts and changes of memory cost beside the base and PEFT"),
    "token-cost": (token_cost, "count what a token and a prompt ask of a machine, and measure them beside that"),
    "bank-bench": (bank_bench, "measure what a bank of many memories takes to open, to change and to save"),
    "serve-bench": (serve_bench, "measure a server under load: tokens a second, the first token, and a soak"),
    "route-bench": (route_bench, "measure routers on generated sets of facts; no memory is written"),
    "route-facts": (route_facts, "write the facts of a generated set, to build a bank of"),
    "routes": (routes, "measure routers on questions that people wrote about documents; no memory is written"),
    "token-study": (token_study, "measure what deciding at each token is worth on text that changes topic"),
    "refresh": (refresh, "measure what taking changes up without training costs in routing; no memory is written"),
    "forgetting": (forgetting, "measure what is known of authors, and what is left of one who is forgotten"),
    "generators": (generators, "measure what a generator of facts finds in documents"),
    "gate-study": (gate_study, "measure what labels and the language-model loss teach a gate"),
    "joint-study": (joint_study, "measure what names, losses and both teach a gate of adapters without facts"),
    "rivals": (rivals, "let PEFT's X-LoRA or Arrow, or multilobe, answer questions over a bank"),
}
"""Name → (what runs its command line, what it is for)."""
