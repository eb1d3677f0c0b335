"""The commands of research."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from jsonargparse import ArgumentParser

from lorary.base.loading import EMBEDDED, load_base
from lorary.router_training.settings import Training
from lorary.routing.encoder import EMBEDDED as EMBEDDED_ENCODER
from lorary.routing.encoder import load_encoder


def capacity(argv: list[str]) -> None:
    """Measures how much a memory of each rank holds."""
    parser = ArgumentParser(
        prog="lorary capacity",
        description="Measures how many facts a memory of each rank recalls. Writes memories of invented facts, each "
        "fact shown equally often whatever the load, and tells the knee: the largest load that is still recalled.",
    )
    parser.add_argument(
        "--out", type=str, required=True, help="folder of results.json, report.md and recall.png; a run goes on there"
    )
    parser.add_argument("--base", type=str, default=EMBEDDED, help="hub id, local folder or the embedded default")
    parser.add_argument("--ranks", type=str, default="1,2,4,8,16", help="LoRA ranks, with commas between")
    parser.add_argument("--loads", type=str, default="25,50,100,200,400", help="facts a memory, with commas between")
    parser.add_argument("--seeds", type=int, default=1, help="how many sets of facts, from seed 0")
    parser.add_argument("--exposures", type=int, default=5, help="passes over all wordings, for every load")
    parser.add_argument("--wordings", type=int, default=8, help="trained wordings a fact, 1 to 8")
    parser.add_argument("--recall", type=float, default=0.9, help="the share of facts that defines the knee")
    parser.add_argument("--processes", type=int | None, default=None, help="that write side by side; one a core")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    given = parser.parse_args(argv)
    from lorary.memories.capacity_report import report
    from lorary.research.capacity import Grid
    from lorary.research.capacity import capacity as run

    lists = {name: _numbers(name, getattr(given, name)) for name in ("ranks", "loads")}
    plain = {name: getattr(given, name) for name in ("seeds", "exposures", "wordings", "recall")}
    passed = {name: getattr(given, name) for name in ("base", "processes", "quiet")}
    study = run(given.out, grid=Grid(**lists, **plain), **passed)
    print(json.dumps(study.to_json()) if given.json else f"{report(study)}\nstudy: {given.out}")


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.strip("[]() ").split(","))
    except ValueError:
        raise ValueError(f"--{name} takes whole numbers with commas between, such as 4,8; {text!r} given") from None


def wordings(argv: list[str]) -> None:
    """Measures what the texts of a fact add to its recall."""
    parser = ArgumentParser(
        prog="lorary wordings",
        description="Measures what the number of wordings of a fact, the format of its texts and who words its "
        "questions add to its recall under held-out wordings. Each fact is shown equally often whatever its texts. The "
        "default run writes 36 memories of 32 facts, in about 30 minutes on two idle cores with AVX512-BF16.",
    )
    parser.add_argument(
        "--out", type=str, required=True, help="folder of results.json, report.md and recall.png; a run goes on there"
    )
    parser.add_argument("--facts", type=str, nargs="+", default=None, help="JSONL files or folders; the sample facts")
    parser.add_argument("--base", type=str, default=EMBEDDED, help="hub id, local folder or the embedded default")
    parser.add_argument("--counts", type=str, default="1,2,4,8,16,24", help="numbers of wordings, with commas between")
    parser.add_argument(
        "--texts", type=int, default=8, help="wordings of the reference, which formats and generators vary"
    )
    parser.add_argument("--parts", type=str, default="number,format,generator", help="of the study, commas between")
    parser.add_argument("--seeds", type=int, default=3, help="draws of wordings, first weights and order, from seed 0")
    parser.add_argument("--exposures", type=int, default=48, help="times a fact is shown, a multiple of 4")
    parser.add_argument("--facts-a-topic", type=int, default=4, help="the first so many of each topic, in one memory")
    parser.add_argument("--processes", type=int | None, default=None, help="that write side by side; one a core")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    given = parser.parse_args(argv)
    from lorary.research.wordings import SAMPLES
    from lorary.research.wordings import wordings as run
    from lorary.research.wordings_design import Design
    from lorary.research.wordings_report import report

    parts = tuple(part.strip() for part in given.parts.split(","))
    plain = {name: getattr(given, name) for name in ("texts", "seeds", "exposures", "facts_a_topic")}
    design = Design(counts=_numbers("counts", given.counts), parts=parts, **plain)
    passed = {name: getattr(given, name) for name in ("base", "processes", "quiet")}
    study = run(given.out, facts=given.facts or [SAMPLES], design=design, **passed)
    print(json.dumps(study.to_json(), ensure_ascii=False) if given.json else f"{report(study)}\nstudy: {given.out}")


def route_bench(argv: list[str]) -> None:
    """Measures routers on generated sets."""
    parser = ArgumentParser(prog="lorary route-bench", description="Measures routers on generated sets of facts.")
    parser.add_argument(
        "--out", type=str, required=True, help="folder of results.json and report.md; a run goes on there"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them; others than 0 to 2 to choose by")
    parser.add_argument("--sets", type=list[str], default=["separable", "overlapping", "phone-book"], help="which sets")
    parser.add_argument(
        "--folds",
        type=list[int],
        default=[],
        help="leave out other wordings, drawn by each number, and never meet those held out: to choose features by",
    )
    parser.add_argument(
        "--encoder", type=str, default=EMBEDDED_ENCODER, help="hub id, local folder or the embedded default"
    )
    parser.add_argument(
        "--base",
        type=str | None,
        default=None,
        help="also gates that read the hidden state of this base at the split: a hub id, a local folder, or "
        f"{EMBEDDED}; takes minutes more",
    )
    parser.add_argument(
        "--unknown-names", type=bool, default=True, help="calibrate on unknown names, too, as `train-router` does"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args(argv)
    from lorary.research.route_bench import route_bench as run
    from lorary.research.route_bench_report import write_report

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    passed = {name: getattr(given, name) for name in ("seeds", "first_seed", "sets", "folds")}
    training = Training(unknown_names=given.unknown_names)
    base = load_base(given.base) if given.base is not None else None
    results = run(given.out, **passed, training=training, encoder=load_encoder(given.encoder), base=base)
    print(json.dumps(results["sets"]) if given.json else write_report(results))


def route_facts(argv: list[str]) -> None:
    """Writes the facts of a generated set."""
    from lorary.research.route_sets import SETS, drawn

    parser = ArgumentParser(
        prog="lorary route-facts",
        description="Writes the facts of one of `lorary route-bench`'s sets, to build a bank of.",
    )
    parser.add_argument("set", type=str, choices=[*SETS], help=f"one of {[*SETS]}")
    parser.add_argument("--out", type=str, required=True, help="JSONL file to write")
    parser.add_argument("--facts-a-topic", type=int | None, default=None, help="drawn from each topic; all of them")
    parser.add_argument("--seed", type=int, default=0, help="of the set and of what is drawn")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    given = parser.parse_args(argv)
    from lorary.bank.files import write_aside

    facts = drawn(given.set, given.seed, given.facts_a_topic)
    lines = (json.dumps(fact.to_json(), ensure_ascii=False) + "\n" for fact in facts)
    write_aside(Path(given.out), "".join(lines).encode())
    told = {"facts": len(facts), "topics": len({fact.topic for fact in facts}), "out": given.out}
    print(json.dumps(told) if given.json else f"{told['facts']} facts of {told['topics']} topics: {given.out}")


def gate_study(argv: list[str]) -> None:
    """Measures what joint training of the gate is worth on a bank."""
    parser = ArgumentParser(
        prog="lorary gate-study",
        description="Trains gates on one bank by labels, by the language-model loss, by both and by soft labels, and puts "
        "PEFT's X-LoRA and Arrow beside them.",
    )
    parser.add_argument("bank", type=str, help="folder of the bank or composite")
    parser.add_argument(
        "--out", type=str, required=True, help="folder of results.json and report.md; a run goes on there"
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0")
    arms = ["labels", "language", "both", "soft-labels"]
    parser.add_argument("--arms", type=list[str], default=arms, help="what gates are trained by")
    parser.add_argument("--rivals", type=list[str], default=["xlora", "arrow"], help="PEFT's routers; [] for none")
    parser.add_argument("--unrelated", type=str | None, default=None, help="JSONL of questions that no memory answers")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    own = {"seed", "patience"}
    parser.add_class_arguments(Training, skip=own)
    given = parser.parse_args(argv)
    from lorary.research.gate_study import gate_study as run
    from lorary.research.study_report import write_report

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    fields = {name: getattr(given, name) for name in Training.__dataclass_fields__ if name not in own}
    fields["features"] = tuple(fields["features"]) if fields["features"] else None
    passed = {name: getattr(given, name) for name in ("out", "seeds", "arms", "rivals", "unrelated", "quiet")}
    results = run(given.bank, training=Training(**fields), **passed)
    told = {name: results[name] for name in ("routers", "differences", "rivals", "counts")}
    print(json.dumps(told) if given.json else write_report(results))


def rival_scores(argv: list[str]) -> None:
    """Weighs the memories of a bank by PEFT's X-LoRA or Arrow."""
    parser = ArgumentParser(
        prog="lorary rival-scores", description="PEFT's X-LoRA or Arrow on a gate study's questions."
    )
    parser.add_argument("bank", type=str, help="folder of the bank")
    parser.add_argument("--study", type=str, required=True, help="folder of the study, which holds its questions")
    parser.add_argument("--rival", type=str, required=True, help="xlora or arrow")
    parser.add_argument("--seed", type=int, default=0, help="of first weights and order")
    parser.add_argument("--seconds", type=float, default=60.0, help="that X-LoRA may train")
    parser.add_argument("--batch_size", type=int, default=64, help="rows a step")
    parser.add_argument("--lr", type=float, default=3e-3, help="AdamW learning rate, which falls to nothing")
    given = parser.parse_args(argv)
    from lorary.research.rivals import rival_scores as run

    passed = ("study", "rival", "seed", "seconds", "batch_size", "lr")
    print(json.dumps(run(given.bank, **{name: getattr(given, name) for name in passed})))


def rival_answers(argv: list[str]) -> None:
    """Lets PEFT's X-LoRA or Arrow answer questions over the memories of a bank."""
    parser = ArgumentParser(
        prog="lorary rival-answers",
        description="Lets PEFT's X-LoRA or Arrow, over the memories of a bank, answer questions: greedily, with the prompt "
        "and the longest answer that `lorary recall` gives the memories. Writes a line a question and, under the same "
        "name with .json, what the run took. `lorary recall --answers NAME=FILE` scores the answers beside the others.",
    )
    parser.add_argument("bank", type=str, help="folder of the bank or composite")
    parser.add_argument("--rival", type=str, required=True, help="xlora or arrow")
    parser.add_argument("--out", type=str, required=True, help="JSONL file of the answers")
    parser.add_argument(
        "--questions",
        type=str | None,
        default=None,
        help="JSONL to ask, as `lorary recall` takes it; by default the bank's held-out wordings",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="that X-LoRA trains on the bank's trained wordings; Arrow never does",
    )
    parser.add_argument("--batch-size", type=int, default=64, help="rows a step of X-LoRA's training")
    parser.add_argument("--lr", type=float, default=3e-3, help="its AdamW learning rate, which falls to nothing")
    parser.add_argument(
        "--seed", type=int, default=0, help="of X-LoRA's first weights and order, and of Arrow's search for its vectors"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print what the run took as JSON")
    given = parser.parse_args(argv)
    from lorary.research.rival_answers import rival_answers as run

    passed = ("rival", "out", "questions", "seconds", "batch_size", "lr", "seed", "quiet")
    told = run(given.bank, **{name: getattr(given, name) for name in passed})
    if given.json:
        print(json.dumps(told))
        return
    trained = f"trained {told['seconds_training']:.0f} s ({told['steps']} steps), " if "steps" in told else ""
    print(f"{given.rival}: {trained}{told['questions']} questions answered in {told['seconds_answering']:.0f} s")
    print(f"answers: {given.out}")
