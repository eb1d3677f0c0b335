"""The studies of routing alone, for which no memory is written, as `lorary research NAME [options]`."""

from __future__ import annotations

import logging
from pathlib import Path

from lorary.options import Options, made, taken
from lorary.research.joint_settings import JointDesign
from lorary.research.options import BASE, add_folder, print_study
from lorary.research.settings import SET_NAMES
from lorary.router_training.settings import Training
from lorary.tables import aligned_table, counted


def route_bench(argv: list[str]) -> None:
    """Measures routers on generated sets."""
    parser = Options(
        "research route-bench",
        "Measures routers on generated sets of facts, under wordings that nothing was fitted to. No memory is written.",
        "--out FOLDER",
    )
    add_folder(parser, "results.json and report.md")
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
    print_study(options, lambda: results["sets"], lambda: tell_routing(results))


def routes(argv: list[str]) -> None:
    """Measures routers on questions about documents."""
    parser = Options(
        "research routes",
        "Measures routing on questions that people wrote about documents: the gate, the policy as shipped, and routers that "
        "nothing trains. Of a topic's questions 60 % train the gate, 15 % calibrate it and 25 % are asked; then some topics "
        "are left out, and their questions are strangers. No memory is written.",
        "FILE [FILE ...] --out FOLDER",
    )
    files = (
        "SQuAD's JSON (an article is a topic), JSONL as TOFU's (an author is a topic), or JSONL of facts with 'topic'"
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help=files)
    add_folder(parser, "results.json and report.md")
    parser.add_argument("--draws", type=int, metavar="N", default=3, help="draws of what trains and what is asked")
    strangers = "topics to leave out as strangers; by default a quarter; 0 for none"
    parser.add_argument("--strangers", type=int, metavar="N", help=strangers)
    encoder = "sentence encoder to route by: a hub id or a local folder; by default the embedded one"
    parser.add_argument("--encoder", metavar="NAME", help=encoder)
    speed = "measure the time of a route among 1,000 memories of 100 passages too, which takes minutes"
    parser.add_argument("--speed", action="store_true", help=speed)
    parser.add_quiet()
    parser.add_json("the figures")
    fixed = set(Training.__dataclass_fields__) - {"features", "unknown_names"}
    parser.add_record(Training, "how the gates are trained and calibrated", skip=fixed)
    options = parser.parse_args(argv)
    training = made(Training, options, skip=fixed)
    from lorary.research.routes import routes as run
    from lorary.research.routes_report import tell_routes
    from lorary.routing.encoder import load_encoder

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    results = run(
        **taken(options, "files", "out", "draws", "strangers", "speed", "quiet"),
        training=training,
        encoder=load_encoder(options.encoder) if options.encoder is not None else None,
    )
    shown = {name: results[name] for name in ("tables", "speed") if name in results}
    print_study(options, lambda: shown, lambda: tell_routes(results, lambda rows: "\n".join(aligned_table(rows))))


def refresh(argv: list[str]) -> None:
    """Measures what refreshing costs in routing."""
    parser = Options(
        "research refresh",
        "Measures what it costs in routing when a composite takes changes of its bank up by `lorary refresh`: topics join, "
        "grow and leave, on generated sets of facts; a gate trained anew on the same bank stands beside it. Both are asked "
        "the held-out wordings. No memory is written.",
        "--out FOLDER",
    )
    add_folder(parser, "results.json and report.md")
    parser.add_argument("--seeds", type=int, metavar="N", default=3, help="seeds to measure")
    parser.add_argument("--first-seed", type=int, metavar="N", default=0, help="first of the seeds")
    sets = f"sets of facts to measure on: {', '.join(SET_NAMES[:2])}"
    parser.add_argument("--sets", nargs="+", metavar="NAME", choices=SET_NAMES[:2], default=SET_NAMES[:2], help=sets)
    count = "facts to draw of each topic"
    parser.add_argument("--facts-a-topic", type=int, metavar="N", default=12, help=count)
    parser.add_json("the figures")
    options = parser.parse_args(argv)
    from lorary.research.refresh_bench import refresh_bench, tell_refresh

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    results = refresh_bench(options.out, **taken(options, "seeds", "first_seed", "sets", "facts_a_topic"))
    print_study(options, lambda: results["table"], lambda: tell_refresh(results))


def token_study(argv: list[str]) -> None:
    """Measures what deciding at each token is worth."""
    parser = Options(
        "research token-study",
        "Measures a composite that decides at each token: the perplexity of texts whose spans come from several memories, "
        "beside one route a text, the right memory of each span, all memories and the base; and the facts told in one "
        "answer to questions on two topics.",
        "COMPOSITE --out FOLDER",
    )
    composite = "folder of a composite that was trained with --granularity token"
    parser.add_argument("composite", metavar="COMPOSITE", help=composite)
    add_folder(parser, "results.json and report.md")
    parser.add_argument("--texts", type=int, metavar="N", default=60, help="texts of two to five spans")
    parser.add_argument("--questions", type=int, metavar="N", default=40, help="questions on two topics, of each kind")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="seed for texts and questions")
    parser.add_quiet()
    parser.add_json("the results")
    options = parser.parse_args(argv)
    from lorary.research.token_study import tell_tokens
    from lorary.research.token_study import token_study as run

    results = run(**taken(options, "composite", "out", "texts", "questions", "seed", "quiet"))
    print_study(options, lambda: results, lambda: tell_tokens(results))


def joint_study(argv: list[str]) -> None:
    """Measures what names, losses and the language-model loss teach a gate of adapters without facts."""
    parser = Options(
        "research joint-study",
        "Trains adapters by plain PEFT, two on the same facts and one for each format, and gates over them: by the names of "
        "examples, by labels that the loss tells, by the language-model loss through the mixture, and by two of these.",
        "--out FOLDER",
    )
    add_folder(parser, "results.json, report.md and the adapters")
    parser.add_argument("--base", metavar="NAME", help=BASE)
    spanish = (
        "questions in SQuAD's format, such as XQuAD's in Spanish, for an adapter that answers in Spanish; none without"
    )
    parser.add_argument("--spanish", metavar="FILE", help=spanish)
    parser.add_quiet()
    parser.add_json("the figures")
    parser.add_record(JointDesign, "what is trained")
    options = parser.parse_args(argv)
    design = made(JointDesign, options)
    from lorary.research.joint_report import figures_of, tell_joint
    from lorary.research.joint_study import joint_study as run

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    results = run(design=design, **taken(options, "out", "base", "spanish", "quiet"))
    print_study(options, lambda: figures_of(results), lambda: tell_joint(results))


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
    print_study(options, lambda: counts, lambda: told)
