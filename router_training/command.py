"""The commands `train-router`, `route-bench`, `route-facts` and `gate-study`."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from jsonargparse import ArgumentParser

from lorary.bases import EMBEDDED as EMBEDDED_BASE
from lorary.bases import load_base
from lorary.encoder import EMBEDDED, load_encoder
from lorary.router_training.settings import Training


def train_router(argv: list[str]) -> None:
    """Trains a gate for a bank."""
    parser = ArgumentParser(prog="lorary train-router", description="Trains the gate of a bank and saves a composite.")
    parser.add_argument("bank", type=str, help="folder of the bank")
    parser.add_argument("--out", type=str, required=True, help="folder of the composite")
    parser.add_argument("--unrelated", type=str | None, default=None, help="JSONL of questions that no memory answers")
    parser.add_argument("--init-from", type=str | None, default=None, help="a composite whose gate to start from")
    parser.add_argument("--resume", type=str | None, default=None, help="a checkpoint to go on from")
    parser.add_argument(
        "--encoder", type=str | None, default=None, help="another than the bank's; the facts are embedded anew"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print policy and calibration as JSON")
    parser.add_class_arguments(Training)
    given = parser.parse_args(argv)
    from lorary.router_training.training import train_router as run

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it greets at INFO, and sets that at import
    fields = {name: getattr(given, name) for name in Training.__dataclass_fields__}
    fields["features"] = tuple(fields["features"]) if fields["features"] else None
    common = {name: getattr(given, name) for name in ("unrelated", "init_from", "resume", "encoder", "quiet")}
    model = run(given.bank, out=given.out, training=Training(**fields), **common)
    told = model.config.router_training
    if given.json:
        print(json.dumps({"policy": model.config.policy, "calibration": told["calibration"]}))
        return
    print(f"gate over {len(model.memories)} memories; policy {model.config.policy}; {told['calibration']}")
    print(f"composite: {given.out}")


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
    parser.add_argument("--encoder", type=str, default=EMBEDDED, help="hub id, local folder or the embedded default")
    parser.add_argument(
        "--base",
        type=str | None,
        default=None,
        help="also gates that read the hidden state of this base at the split: a hub id, a local folder, or "
        f"{EMBEDDED_BASE}; takes minutes more",
    )
    parser.add_argument(
        "--hard-weight", type=float, default=1.0, help="what hard queries weigh in training, as `train-router` has it"
    )
    parser.add_argument(
        "--unknown-names", type=bool, default=True, help="calibrate on unknown names, too, as `train-router` does"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args(argv)
    from lorary.router_training.benchmark import route_bench as run
    from lorary.router_training.benchmark_report import write_report

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    passed = {name: getattr(given, name) for name in ("seeds", "first_seed", "sets", "folds")}
    training = Training(hard_weight=given.hard_weight, unknown_names=given.unknown_names)
    base = load_base(given.base) if given.base is not None else None
    results = run(given.out, **passed, training=training, encoder=load_encoder(given.encoder), base=base)
    print(json.dumps(results["sets"]) if given.json else write_report(results))


def route_facts(argv: list[str]) -> None:
    """Writes the facts of a generated set."""
    from lorary.router_training.sets import SETS, drawn

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
    from lorary.files import write_aside

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
    own = {"seed", "labels", "patience"}
    parser.add_class_arguments(Training, skip=own)
    given = parser.parse_args(argv)
    from lorary.router_training.study import gate_study as run
    from lorary.router_training.study_report import write_report

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    fields = {name: getattr(given, name) for name in Training.__dataclass_fields__ if name not in own}
    fields["features"] = tuple(fields["features"]) if fields["features"] else None
    passed = {name: getattr(given, name) for name in ("out", "seeds", "arms", "rivals", "unrelated", "quiet")}
    results = run(given.bank, training=Training(**fields), **passed)
    told = {name: results[name] for name in ("routers", "differences", "rivals", "counts")}
    print(json.dumps(told) if given.json else write_report(results))
