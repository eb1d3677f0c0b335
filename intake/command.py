"""The command `facts`: what people have → facts that a person can read and correct."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lorary.bank.documents import document_of
from lorary.options import Options, taken
from lorary.printing import print_json
from lorary.tables import aligned_table, counted

if TYPE_CHECKING:
    from lorary.intake.gathering import Gathered

_EXAMPLES = """examples:
  lorary facts handbook.pdf prices.csv --out facts     a memory for each file
  lorary facts notes/ --out facts --topics heading     a memory for each heading
  lorary facts staff.xlsx --out facts --entity Name --template "Who is {entity}'s {column}?" "phone=How do I reach {entity}?"
  lorary facts report.docx --out facts --generator endpoint --endpoint http://127.0.0.1:8000/v1
  lorary facts chat.txt faq.html --out facts.jsonl     one file of facts to read and correct
  lorary build facts --out bank                        then: the bank"""


def _facts_options() -> Options:
    parser = Options(
        "facts",
        "Makes facts of documents (Markdown, text, HTML, PDF, DOCX), tables (CSV, TSV, XLSX), questions and answers (FAQ "
        "pages, JSON and JSONL in the usual forms) and chats. Read and correct them; `lorary build` makes a bank of them. "
        "Nothing leaves this machine, unless you name an endpoint.",
        "SOURCE ... --out FACTS",
        lambda: _EXAMPLES,
    )
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="files, or folders with files")
    parser.add_argument(
        "--out",
        metavar="FACTS",
        required=True,
        help="a folder with a file of facts and the document of each topic, or a file that ends in .jsonl for the facts alone",
    )
    parser.add_argument(
        "--topics",
        choices=("file", "heading", "auto"),
        default="file",
        help="what becomes a topic: each file, each heading, or what is near by meaning",
    )
    parser.add_argument(
        "--facts-a-topic",
        metavar="N",
        type=int,
        default=200,
        help="facts of the largest topic, since a memory holds so many well; one of facts alone is split, rows together",
    )
    parser.add_argument("--topic", metavar="NAME", help="one topic of this name for everything")
    parser.add_argument(
        "--entity",
        metavar="COLUMN",
        help="column that says what a row is about; by default the first whose values differ",
    )
    parser.add_argument(
        "--template",
        metavar="TEXT",
        nargs="+",
        dest="templates",
        default=[],
        help="wordings for the cells of tables, before those by rule; {entity}, {column} and {OTHER COLUMN} are filled in, "
        "COLUMN=TEXT is for one column alone",
    )
    parser.add_argument(
        "--turned",
        action="store_true",
        help="add each fact the other way round (whose code is 4173?), where its statement has a form that a rule knows and no "
        "other fact has its answer; a memory tells no fact in reverse that was not written so",
    )
    add_generator(parser)
    parser.add_argument("--encoding", metavar="NAME", help="encoding of text files that are not UTF-8, such as cp1252")
    parser.add_argument(
        "--largest", metavar="MB", type=float, default=50.0, help="megabytes of the largest file that is read"
    )
    parser.add_argument("--replace", action="store_true", help="write over files of the same names in FACTS")
    parser.add_quiet()
    parser.add_json("topics, counts, what was left out and notes")
    return parser


def facts(argv: list[str]) -> None:
    """Makes facts of what people have."""
    options = _facts_options().parse_args(argv)
    from lorary.intake.gathering import gather
    from lorary.intake.generators import generator_named
    from lorary.intake.writing import check_out, is_one_file, write_sources

    check_out(options.out, options.replace)
    settings = taken(
        options, "topics", "topic", "entity", "templates", "encoding", "largest", "facts_a_topic", "turned", "quiet"
    )
    generator = generator_named(options.generator, **taken(options, "endpoint", "model"))
    gathered = gather(options.sources, generator=generator, **settings)
    files = write_sources(gathered.sources, options.out, options.replace)
    if options.json:
        print_json(_plain(gathered, [str(file) for file in files]))
    else:
        print(_text(gathered, options.out, is_one_file(options.out)))


def add_generator(parser: Options) -> None:
    """The options --generator, --endpoint and --model."""
    parser.add_argument(
        "--generator",
        metavar="NAME",
        default="auto",
        help="what finds facts in passages: 'rules' (English, no model), 'endpoint' (an OpenAI-compatible server), a model on "
        "this machine (a hub id, a folder, or 'embedded'), 'none', or 'auto': rules where their packages are installed",
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="address of the server for --generator endpoint, to which passages are sent; by default OPENAI_BASE_URL",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="model of the server; by default OPENAI_MODEL, or the only one that the server has",
    )


def _plain(gathered: Gathered, files: list[str]) -> dict[str, Any]:
    return {
        "files": files,
        "topics": [{"topic": s.topic, "facts": len(s.facts), "passages": len(s.passages)} for s in gathered.sources],
        "left_out": [asdict(item) for item in gathered.left_out],
        "notes": list(gathered.notes),
    }


def _text(gathered: Gathered, out: str, one_file: bool) -> str:
    """The counts of each file, what was left out and why, the notes, and what comes next."""
    left = Counter(item.where.split(", ")[0] for item in gathered.left_out)
    rows = [["file", "facts", "passages", "left out"]]
    told = _facts_of_files(gathered)
    for file, contents in gathered.read:
        facts = told[file.name]
        passages = sum(len(part.passages) for part in contents.parts)
        rows.append([file.name, f"{facts:,}", f"{passages:,}", f"{left[file.name]:,}"])
    lines = [*aligned_table(rows), *(["", *notes] if (notes := notes_of(gathered)) else [])]
    facts = sum(len(source.facts) for source in gathered.sources)
    passages = sum(len(source.passages) for source in gathered.sources)
    held = f"{counted(facts, 'fact')} in {counted(len(gathered.sources), 'topic')}"
    if one_file and passages:
        lines += [
            "",
            f"note: {counted(passages, 'passage')} stand in no fact; give a folder as --out to keep the documents, too",
        ]
    elif passages:
        held += f", and {counted(passages, 'passage')} of documents"
    lines += ["", f"facts: {out}, {held}", f"next: read and correct them, then `lorary build {out} --out BANK`"]
    return "\n".join(lines)


def _facts_of_files(gathered: Gathered) -> Counter[str]:
    """The name of a file → how many facts it gave. A file of facts may name no source or another one than itself: its facts
    are known by their questions, and turned around by their statements."""
    names = {file.name for file, _ in gathered.read}
    facts = [(file.name, fact) for file, contents in gathered.read for part in contents.parts for fact in part.facts]
    stood = {text: name for name, fact in facts for text in (fact.statement, fact.question) if text}
    told = Counter[str]()
    for fact in (fact for source in gathered.sources for fact in source.facts):
        document = document_of(fact.source or "")
        told[document if document in names else stood.get(fact.question) or stood.get(fact.statement or "", "")] += 1
    return told


def notes_of(gathered: Gathered) -> list[str]:
    """What was left out and why, the most frequent reason first, and what was decided that people may want to change."""
    lines = ["left out:"] if gathered.left_out else []
    lines += [f"  {count:,} × {why} ({item.where}: {item.what})" for why, count, item in gathered.reasons]
    return lines + [f"note: {note}" for note in gathered.notes]
