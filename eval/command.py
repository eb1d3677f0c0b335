"""The commands `recall`, `show`, `compare` and `task`."""

from __future__ import annotations

import json
from argparse import RawDescriptionHelpFormatter
from collections import Counter
from pathlib import Path

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from lorary.eval.conditions import ALL, CONDITIONS, EACH, FIRST, PARTS


class _AsItIs(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the lines of a description and an epilog."""


def recall(argv: list[str]) -> None:
    """Scores a composite."""
    parser = ArgumentParser(
        prog="lorary recall",
        description="Asks the held-out wordings under every condition; the same command goes on where it stopped.",
        epilog="conditions:\n" + "\n".join(f"  {name:<18}{told.meaning}" for name, told in CONDITIONS.items()),
        formatter_class=_AsItIs,
    )
    parser.add_argument("composite", type=str, help="a composite, a bank, or a folder of stock PEFT adapters")
    parser.add_argument("--out", type=str, required=True, help="folder of the results")
    parser.add_argument(
        "--base",
        type=str | None,
        default=None,
        help="hub id or local folder of the base; by default what the composite or bank names",
    )
    parser.add_argument(
        "--questions",
        type=str | None,
        default=None,
        help="JSONL to ask instead of the bank's held-out wordings, such as `lorary task` writes; what was trained on is refused",
    )
    parser.add_argument(
        "--conditions",
        type=str,
        nargs="+",
        default=None,
        help=f"who answers, and with what in the prompt; of those below, `{EACH}` (each memory alone) and `{ALL}` (everything); "
        f"by default {', '.join(FIRST)}, or without a gate what needs none",
    )
    parser.add_argument(
        "--also",
        type=str,
        nargs="+",
        default=[],
        help="further banks over the same base, such as one LoRA for all topics: each of their memories answers all questions",
    )
    parser.add_argument(
        "--answers",
        type=str,
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="answers of another system to the same questions, told as a condition of that name; JSONL with `question` and "
        "`answer` a line, as `lorary rival-answers` writes it; may be given several times",
    )
    parser.add_argument(
        "--text",
        type=str | None,
        default=None,
        help="text file to measure the damage to other text on; by default a shipped one",
    )
    parser.add_argument(
        "--counts", type=int, nargs="+", default=[], help="also ask in smaller banks of so many memories, such as 2 4 8"
    )
    parser.add_argument(
        "--merges",
        type=int,
        nargs="+",
        default=[],
        help="also ask under so many memories merged into one, such as 1 2 3",
    )
    parser.add_argument(
        "--parts",
        type=str,
        nargs="+",
        default=list(PARTS),
        help=f"what to measure, of {', '.join(PARTS)} (answers, damage to other text, times)",
    )
    parser.add_argument(
        "--passages",
        type=int,
        default=3,
        help="how many passages the index or BM25 puts before a question, where the condition has them",
    )
    parser.add_argument(
        "--free-tokens",
        type=int,
        default=32,
        help="tokens beyond the longest answer's, where the base answers in its own words",
    )
    parser.add_argument("--batch-size", type=int, default=128, help="questions a batch; fewer where prompts are long")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the wrong memories, the studies' groups and the bootstrap"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    given = parser.parse_args(argv)
    from lorary.eval.evaluation import recall as run
    from lorary.eval.given import named_files
    from lorary.eval.report import write_report

    settings = given.as_dict()
    as_json = settings.pop("json")
    settings["answers"] = named_files(settings["answers"])
    results = run(settings.pop("composite"), **settings)
    print(json.dumps(results) if as_json else write_report(results))


def show(argv: list[str]) -> None:
    """Prints the table of a run and five questions."""
    parser = ArgumentParser(
        prog="lorary show", description="Prints a run's table and five questions with their routes."
    )
    parser.add_argument("results", type=str, help="folder that `lorary recall` wrote")
    parser.add_argument("--totals", type=str | None, default=None, help="JSON of figures of the whole run to record")
    given = parser.parse_args(argv)
    from rich.console import Console
    from rich.table import Table

    from lorary.eval.report import rich_table
    from lorary.eval.results import read, write

    folder = Path(given.results)
    results, predictions = read(folder)
    if given.totals:
        totals = json.loads(given.totals)
        results["seconds"].update(totals["seconds"])
        results["peak_rss_mib"] = max(results["peak_rss_mib"], totals["peak_rss_mib"])
        write(results, predictions, folder)
    console = Console()
    console.print(rich_table(results))
    asked = predictions.get("policy", [])
    shown = Table(title="Five questions, the memory that answered, its weight and the source of the route")
    for column in ("question", "answer", "memory", "weight", "source"):
        shown.add_column(column)
    for p in asked[:: max(1, len(asked) // 5)][:5]:
        route = p["route"]
        weights = ", ".join(f"{w:.2f}" for w in route["weights"])
        shown.add_row(p["question"], p["said"], ", ".join(route["memories"]) or "none", weights, route["source"])
    console.print(shown)


def compare(argv: list[str]) -> None:
    """Prints runs side by side."""
    parser = ArgumentParser(prog="lorary compare", description="Puts runs of the same questions side by side.")
    parser.add_argument(
        "runs", type=str, nargs="+", help="folders that `lorary recall` wrote; the first is the measure"
    )
    parser.add_argument(
        "--condition",
        type=str,
        default="policy",
        help="the condition that is compared; with --pool, the one that the others are compared to",
    )
    parser.add_argument(
        "--pool", action="store_true", help="tell the runs as one: they are seeds of the same experiment"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    given = parser.parse_args(argv)
    if given.pool:
        from lorary.eval.pooled import pool, pooled

        one = pool(given.runs, against=given.condition, seed=given.seed)
        print(json.dumps(one) if given.json else pooled(one))
        return
    from lorary.eval.comparison import compare as run
    from lorary.eval.report import compared

    told = run(given.runs, condition=given.condition, seed=given.seed)
    print(json.dumps(told) if given.json else compared(told))


def task(argv: list[str]) -> None:
    """Writes a task's facts and questions."""
    from lorary.eval.tasks import generated as tasks
    from lorary.eval.tasks import long_documents as longdoc
    from lorary.eval.tasks import published as formats
    from lorary.eval.tasks import story
    from lorary.eval.tasks import two_topics as twotopics

    made_by_seed = (tasks.phonebook, tasks.profiles, tasks.twohop, tasks.unknown, story.story, twotopics.twotopics)
    makers = (*made_by_seed, formats.qa, formats.counterfact, longdoc.longdoc)
    by_name = {make.__name__: make for make in makers}
    parser = ArgumentParser(prog="lorary task", description="Writes facts to build from and questions to ask.")
    names = parser.add_subcommands(dest="name")
    for name, make in by_name.items():
        told, _, more = str(make.__doc__).partition("Args:")[0].strip().partition("\n")
        one = ArgumentParser(description=f"{told} {' '.join(more.split())}")
        one.add_argument("--out", type=str, required=True, help="folder of facts.jsonl and questions.jsonl")
        one.add_function_arguments(make, as_group=False, as_positional=True)
        names.add_subcommand(name, one, help=told)
    given = parser.parse_args(argv)
    settings = given[given.name].as_dict()
    out = Path(settings.pop("out"))
    made = by_name[given.name](**settings)
    made.write(out)
    kinds = Counter(line["kind"] for line in made.questions for _ in line.get("held_out", (line["question"],)))
    topics = len({fact.topic for fact in made.facts})
    for note in made.notes:
        print(note)
    print(f"{len(made.facts)} facts on {topics} topics: {out / 'facts.jsonl'}")
    print(f"questions ({', '.join(f'{count} {kind}' for kind, count in kinds.items())}): {out / 'questions.jsonl'}")
