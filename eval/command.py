"""The commands `recall`, `compare` and `task`; and `show`, by which the demo prints its last screen."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from lorary.errors import UsageError
from lorary.eval.meanings import FIRST, MEANINGS, PARTS
from lorary.options import Options, made, positionals
from lorary.printing import print_json
from lorary.tables import counted

TASKS = {
    "phonebook": "lorary.eval.tasks.generated",
    "profiles": "lorary.eval.tasks.generated",
    "twohop": "lorary.eval.tasks.generated",
    "unknown": "lorary.eval.tasks.generated",
    "story": "lorary.eval.tasks.joined",
    "twotopics": "lorary.eval.tasks.joined",
    "uses": "lorary.eval.tasks.uses",
    "qa": "lorary.eval.tasks.published",
    "counterfact": "lorary.eval.tasks.published",
    "longdoc": "lorary.eval.tasks.long_documents",
}
"""Task → the module that holds a function of its name."""


def _conditions() -> str:
    """The conditions and what each means, for the help of `recall`."""
    return "conditions:\n" + "\n".join(f"  {name:<18}{meaning}" for name, meaning in MEANINGS.items())


def _recall_options() -> Options:
    parser = Options(
        "recall",
        "Asks the held-out wordings under each condition and writes results.json, predictions.jsonl and report.md. The same "
        "command goes on where it stopped.",
        "COMPOSITE --out RUN",
        epilog=_conditions,
    )
    add = parser.add_argument
    add("composite", metavar="COMPOSITE", help="a composite, a bank, or a folder of stock PEFT adapters")
    add("--out", metavar="RUN", required=True, help="folder of the results")
    add("--base", metavar="NAME", help="where the base is, if not where the composite or bank says")
    parser.add_lightness()
    _add_conditions(parser)
    _add_measures(parser)
    add("--replace", action="store_true", help="replace a run of other settings in --out, which is refused otherwise")
    parser.add_quiet()
    parser.add_json("the results")
    return parser


def _add_conditions(parser: Options) -> None:
    """The questions, and under what they are asked."""
    add = parser.add_argument
    add(
        "--questions",
        metavar="FILE",
        help="JSONL to ask instead of the bank's held-out wordings, as `lorary task` writes it; what was trained on is "
        "refused",
    )
    add(
        "--conditions",
        metavar="NAME",
        nargs="+",
        help="who answers, and with what in the prompt, of those below; `each` is each memory alone, `all` is everything; by "
        f"default {', '.join(FIRST[:-1])} and {FIRST[-1]}, or without a gate what needs none",
    )
    add(
        "--also",
        metavar="BANK",
        nargs="+",
        default=[],
        help="further banks over the same base, such as one LoRA for all topics: each of their memories answers all questions",
    )
    add(
        "--answers",
        metavar="NAME=FILE",
        nargs="+",
        action="extend",
        default=[],
        help="answers of other systems to the same questions, each a condition of that name; JSONL with `question` and "
        "`answer` a line",
    )
    add("--counts", metavar="N", type=int, nargs="+", default=[], help="also ask in smaller banks of so many memories")
    add(
        "--merges", metavar="N", type=int, nargs="+", default=[], help="also ask under so many memories merged into one"
    )


def _add_measures(parser: Options) -> None:
    """What is measured of the answers, and how."""
    add = parser.add_argument
    add("--text", metavar="FILE", help="text to measure the damage to other text on; by default a shipped one")
    add(
        "--parts",
        metavar="NAME",
        nargs="+",
        default=[*PARTS],
        help="what to measure: answers, damage to other text, times",
    )
    add("--passages", metavar="N", type=int, default=3, help="passages before a question, where the condition has them")
    add(
        "--free-tokens",
        metavar="N",
        type=int,
        default=32,
        help="tokens beyond the longest answer's, where the base answers in its own words",
    )
    add("--batch-size", metavar="N", type=int, default=128, help="questions a batch; fewer where prompts are long")
    add(
        "--seed",
        metavar="N",
        type=int,
        default=0,
        help="seed for wrong memories, the studies' groups and the bootstrap",
    )


def recall(argv: list[str]) -> None:
    """Scores a composite."""
    options = _recall_options().parse_args(argv)
    from lorary.eval.evaluation import recall as run
    from lorary.eval.outside_answers import named_files
    from lorary.eval.report import report
    from lorary.eval.results import from_json

    settings = vars(options)
    as_json = settings.pop("json")
    settings["answers"] = named_files(settings["answers"])
    results = run(settings.pop("composite"), **settings)
    if as_json:
        print_json(results)
    else:
        print(report(from_json(results)))


def show(argv: list[str]) -> None:
    """Prints the table of a run and five questions."""
    parser = Options("show", "Prints a run's table and five questions with their routes.", "RUN")
    parser.add_argument("results", metavar="RUN", help="folder that `lorary recall` wrote")
    parser.add_argument("--totals", metavar="JSON", help="figures of the whole run to record")
    options = parser.parse_args(argv)
    from lorary.eval.results import read, write
    from lorary.eval.screen import screen

    folder = Path(options.results)
    results, predictions = read(folder)
    if options.totals:
        totals = json.loads(options.totals)
        results.seconds.update(totals["seconds"])
        results.peak_rss_mib = max(results.peak_rss_mib or 0, totals["peak_rss_mib"])
        write(results, predictions, folder)
    print(screen(results, predictions), end="")


def compare(argv: list[str]) -> None:
    """Prints runs side by side."""
    parser = Options("compare", "Puts runs of the same questions side by side and marks what differs.", "RUN RUN ...")
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="folders that `lorary recall` wrote; the first is the measure"
    )
    parser.add_argument(
        "--condition",
        metavar="NAME",
        default="policy",
        help="condition that is compared; with --pool, the one that the others are compared to",
    )
    parser.add_argument("--pool", action="store_true", help="tell the runs as one: they are seeds of one experiment")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed for the bootstrap")
    parser.add_json("the comparison")
    options = parser.parse_args(argv)
    if options.pool:
        from lorary.eval.pooled import pool, pooled_tables

        together = pool(options.runs, against=options.condition, seed=options.seed)
        if options.json:
            print_json(together)
        else:
            print(pooled_tables(together))
        return
    from lorary.eval.comparison import compare as run
    from lorary.eval.comparison import compared

    comparison = run(options.runs, condition=options.condition, seed=options.seed)
    if options.json:
        print_json(comparison)
    else:
        print(compared(comparison))


def _maker(name: str) -> Any:
    """The function that makes a task's facts and questions."""
    return getattr(importlib.import_module(TASKS[name]), name)


def _described(name: str) -> tuple[str, str]:
    """(the first line, the whole) of what a task is, without its arguments."""
    described = str(_maker(name).__doc__).partition("Args:")[0].strip()
    return described.partition("\n")[0].removesuffix("."), described


def task(argv: list[str]) -> None:
    """Writes a task's facts and questions."""
    if not argv or argv[0] in ("-h", "--help"):
        lines = [
            "usage: lorary task NAME --out FOLDER [options]",
            "",
            "Writes facts to build from and questions to ask:",
            "",
        ]
        lines += [f"  {name:<14}{_described(name)[0]}" for name in TASKS]
        print("\n".join([*lines, "", "`lorary task NAME --help` shows a task's options."]))
        return
    name, *argv = argv
    if name not in TASKS:
        raise UsageError(f"unknown task {name!r}; the tasks are {', '.join(TASKS)}")
    make = _maker(name)
    parser = Options(f"task {name}", _described(name)[1], f"{positionals(make)} --out FOLDER")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder of facts.jsonl and questions.jsonl")
    parser.add_record(make, "what is made")
    options = parser.parse_args(argv)
    made_task, out = made(make, options), Path(options.out)
    made_task.write(out)
    counts = Counter(line["kind"] for line in made_task.questions for _ in line.get("held_out", (line["question"],)))
    topics = len({fact.topic for fact in made_task.facts})
    for note in made_task.notes:
        print(note)
    print(f"{counted(len(made_task.facts), 'fact')} on {counted(topics, 'topic')}: {out / 'facts.jsonl'}")
    print(f"questions ({', '.join(f'{count} {kind}' for kind, count in counts.items())}): {out / 'questions.jsonl'}")
