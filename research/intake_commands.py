"""The study of generators, as `lorary research generators [options]`."""

from __future__ import annotations

from dataclasses import asdict

from lorary.options import Options, taken
from lorary.research.options import print_study
from lorary.tables import aligned_table, counted


def generators(argv: list[str]) -> None:
    """Measures what a generator finds in documents."""
    parser = Options(
        "research generators",
        "Lets a generator make facts of documents, and counts how many of the questions that people asked of the documents "
        "have their answer there. Writes the facts, a sample of thirty to judge by hand, the questions for `lorary recall`, "
        "and the counts.",
        "--documents FOLDER --questions FILE --out FOLDER",
    )
    parser.add_argument("--documents", metavar="FOLDER", required=True, help="folder of Markdown and text files")
    questions = "JSONL of questions: document (a file's name without its ending), question, answer"
    parser.add_argument("--questions", metavar="FILE", required=True, help=questions)
    names = "'rules', 'endpoint', or a model on this machine: a hub id, a folder, or 'embedded'"
    parser.add_argument("--generator", metavar="NAME", default="rules", help=names)
    parser.add_argument("--endpoint", metavar="URL", help="address of the server for --generator endpoint")
    parser.add_argument("--model", metavar="NAME", help="model of the server")
    parser.add_argument("--limit", type=int, metavar="N", help="take the first N documents, by name")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder to write into")
    parser.add_json("the counts")
    options = parser.parse_args(argv)
    from lorary.intake.generators import generator_named
    from lorary.research.coverage import measure_generator, tell_coverage

    generator = generator_named(options.generator, **taken(options, "endpoint", "model"))
    coverage = measure_generator(
        options.documents, options.questions, generator, options.out, **taken(options, "limit")
    )
    made = f"{counted(coverage.facts, 'fact')} of {counted(coverage.documents, 'document')} in {coverage.seconds:.0f} s"
    dropped = [f"  {count:,} × {why}" for why, count in coverage.dropped.items()]
    table = aligned_table(tell_coverage(coverage))
    print_study(options, lambda: asdict(coverage), lambda: "\n".join([made, "", *table, "", "dropped:", *dropped]))
