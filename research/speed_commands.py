"""The studies of speed, as `lorary research NAME [options]`: starting, tokens and prompts, banks of many memories."""

from __future__ import annotations

from dataclasses import replace

from lorary.options import Options, made, taken
from lorary.research.bench_settings import ServeBench, SpeedBench
from lorary.research.options import BASE, add_folder, print_study


def start_bench(argv: list[str]) -> None:
    """Measures what it takes to start."""
    parser = Options(
        "research start-bench",
        "Measures what imports, the base, the encoder and commands take to start, each in a process of its own, beside "
        "`import torch, transformers` and what transformers and sentence-transformers take for the same files.",
        "COMPOSITE --out FOLDER",
    )
    parser.add_argument("composite", metavar="COMPOSITE", help="folder of the composite that is asked")
    parser.add_argument("--question", metavar="TEXT", default="What is the capital of France?", help="what it is asked")
    parser.add_argument("--repeats", type=int, metavar="N", default=5, help="rounds, in each of which all start once")
    add_folder(parser, "results.json and report.md")
    parser.add_quiet()
    parser.add_json("the figures")
    options = parser.parse_args(argv)
    from lorary.research.start_bench import start_bench as run
    from lorary.research.start_bench import table_of, tell_starts

    results = run(options.out, **taken(options, "composite", "question", "repeats", "quiet"))
    print_study(options, lambda: table_of(results["rounds"]), lambda: tell_starts(results))


def bench(argv: list[str]) -> None:
    """Measures what a token, a prompt and a change of memory cost."""
    parser = Options(
        "research bench",
        "Measures what a token, the first token, a prompt, a batch and a change of memory cost beside the base, for banks of "
        "random memories, and the same of PEFT (one adapter, adapter_names, Arrow and X-LoRA), polylora and llama.cpp. Each "
        "cell is a process of its own; a run that was stopped goes on.",
        "--out FOLDER",
    )
    add_folder(parser, "results.json, bench.json, report.md and speed.png")
    parser.add_argument("--base", metavar="NAME", help=BASE)
    parser.add_argument(
        "--quick", action="store_true", help="measure 8 memories and short prompts alone, twice two steps"
    )
    parser.add_quiet()
    parser.add_json("what bench.json holds")
    parser.add_record(SpeedBench, "what is measured")
    options = parser.parse_args(argv)
    settings = made(SpeedBench, options)
    if options.quick:
        settings = replace(settings, counts=(8,), prompts=(16,), repeats=2, steps=2)
    from lorary.research.bench import speed_bench
    from lorary.research.bench_report import summary, tell_speed

    results = speed_bench(options.out, bench=settings, **taken(options, "base", "quiet"))
    print_study(options, lambda: summary(results), lambda: tell_speed(results))


def bank_bench(argv: list[str]) -> None:
    """Measures what a bank of many memories costs."""
    parser = Options(
        "research bank-bench",
        "Measures what a composite of many random memories takes to open, to route its first question, to let a memory leave "
        "and join, and to be saved, and how much memory it holds.",
        "--out FOLDER",
    )
    parser.add_argument("--memories", type=int, metavar="N", default=1000, help="memories of the composite")
    parser.add_argument("--base", metavar="NAME", help=BASE)
    parser.add_argument("--repeats", type=int, metavar="N", default=5, help="rounds, each in a process of its own")
    add_folder(parser, "the composite, results.json and report.md")
    parser.add_quiet()
    parser.add_json("the figures")
    options = parser.parse_args(argv)
    from lorary.research.bank_bench import bank_bench as run
    from lorary.research.bank_bench import table_of, tell_bank

    results = run(options.out, **taken(options, "memories", "base", "repeats", "quiet"))
    print_study(options, lambda: table_of(results["rounds"]), lambda: tell_bank(results))


def token_cost(argv: list[str]) -> None:
    """Counts and measures what a token and a prompt cost."""
    parser = Options(
        "research token-cost",
        "Counts what a token and a prompt ask of a machine (bytes, products, launches), says what these make up to by the "
        "machine's own rates, and measures them beside that: for the base and a bank of random memories, in both dtypes.",
        "--out FOLDER",
    )
    parser.add_argument("--memories", type=int, metavar="N", default=64, help="memories of the bank")
    parser.add_argument("--prompt", type=int, metavar="N", default=128, help="tokens of a prompt")
    parser.add_argument("--steps", type=int, metavar="N", default=20, help="steps that each is measured by")
    parser.add_argument("--cells", metavar="NAME", nargs="+", help="names or patterns of cells; by default all")
    parser.add_argument("--base", metavar="NAME", help=BASE)
    add_folder(parser, "results.json and report.md")
    parser.add_quiet()
    parser.add_json("the figures")
    options = parser.parse_args(argv)
    from lorary.research.token_cost import tell_cost
    from lorary.research.token_cost import token_cost as run

    names = {"names": options.cells} if options.cells else {}
    results = run(options.out, **names, **taken(options, "memories", "prompt", "steps", "base", "quiet"))
    print_study(options, lambda: results["cells"], lambda: tell_cost(results))


def serve_bench(argv: list[str]) -> None:
    """Measures a server under load."""
    parser = Options(
        "research serve-bench",
        "Measures `lorary serve` over random memories with many clients: tokens a second and the time to the first token, "
        "routed, by memories that are named, and by the base, beside asking one after the other in-process, and beside "
        "llama.cpp's server where the package xllamacpp is installed.",
        "--out FOLDER",
    )
    parser.add_argument("--base", metavar="NAME", help=BASE)
    parser.add_argument("--repeats", type=int, metavar="N", default=3, help="rounds, each with a server of its own")
    parser.add_argument(
        "--soak-minutes",
        type=float,
        metavar="X",
        default=0.0,
        help="then let memories join and leave under load; 0: not",
    )
    add_folder(parser, "the composite, results.json, report.md and the server's log")
    parser.add_quiet()
    parser.add_json("the figures")
    parser.add_record(ServeBench, "what is asked")
    options = parser.parse_args(argv)
    bench = made(ServeBench, options)
    from lorary.research.serve_bench import ratios, tell_serving
    from lorary.research.serve_bench import serve_bench as run

    results = run(options.out, bench=bench, **taken(options, "base", "repeats", "soak_minutes", "quiet"))
    print_study(options, lambda: ratios(results["rounds"]), lambda: tell_serving(results))
