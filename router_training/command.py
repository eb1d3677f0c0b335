"""The command `train-router`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lorary.options import Options, made, taken
from lorary.printing import print_json
from lorary.router_training.settings import Training
from lorary.tables import counted


def train_router(argv: list[str]) -> None:
    """Trains a gate for a bank."""
    parser = Options(
        "train-router",
        "Trains the gate of a bank, calibrates its policy and saves a composite: what `lorary ask` and from_pretrained load.",
        "BANK --out COMPOSITE",
    )
    parser.add_argument("bank", metavar="BANK", help="folder of the bank")
    parser.add_argument("--out", metavar="COMPOSITE", required=True, help="folder of the composite")
    parser.add_argument(
        "--unrelated", metavar="FILE", help="JSONL of questions that no memory answers; by default shipped ones"
    )
    parser.add_argument(
        "--examples",
        metavar="FILE",
        help="JSONL of prompts to route by, with 'completion', 'adapter' or both: for adapters that bring no facts; where no "
        "adapter is named, the loss of the completion tells whose it is",
    )
    parser.add_argument("--init-from", metavar="COMPOSITE", help="composite whose gate to start from")
    parser.add_argument("--resume", metavar="FILE", help="checkpoint to go on from")
    parser.add_argument(
        "--encoder", metavar="NAME", help="another encoder than the bank's; the facts are embedded anew with it"
    )
    parser.add_quiet()
    parser.add_json("policy and calibration")
    parser.add_record(Training, "how the gate is trained")
    options = parser.parse_args(argv)
    training = made(Training, options)  # a bad value is told before anything is read
    from lorary.router_training.training import train_router as run

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it greets at INFO, and sets that at import
    common = taken(options, "out", "unrelated", "examples", "init_from", "resume", "encoder", "quiet")
    model = run(options.bank, training=training, **common)
    told = model.config.router_training
    calibration, examples = told["calibration"], told.get("examples", {})
    if options.json:
        figures = {"policy": model.config.policy, "calibration": calibration}
        print_json(figures | ({"examples": examples} if examples else {}))
        return
    for name, own in examples.items():
        by_loss = f", {own['by_loss']} by loss" if own["by_loss"] else ""
        print(f"{counted(own['trained'] + own['kept'], 'example')} of {name}{by_loss}, {own['kept']} to calibrate on")
    print(f"gate over {counted(len(model.memories), 'memory')}; policy: {model.router.policy}")
    print(_calibrated(calibration))
    print(f"composite: {options.out}")


def _calibrated(calibration: Mapping[str, Any]) -> str:
    """What to expect after a calibration, for people: shares with their 95 % intervals, and what was given up."""
    if not calibration["queries"]:
        return "not calibrated: there are no validation wordings"
    achieved, intervals = calibration["achieved"], calibration.get("intervals", {})
    names = {
        "top1": "known questions sent to their memory",
        "known_lost": "known ones left to the base",
        "strangers_routed": "questions on topics that are left out sent to a memory",
        "unknown_names_routed": "ones about unknown names",
        "unrelated_routed": "unrelated ones",
    }
    lines = [f"calibrated on {counted(calibration['queries'], 'known query', 'known queries')}; expect:"]
    for name, what in names.items():
        if achieved.get(name) is not None:
            low, high = intervals.get(name, (None, None))
            within = "" if low is None else f" ({low:.1%} to {high:.1%})"
            lines.append(f"  {what}: {achieved[name]:.1%}{within}")
    for name, share in calibration.get("given_up", {}).items():
        limit = calibration["target"].get(f"max_{name}", calibration["target"]["max_strangers_routed"])
        why = "unrelated questions are left to the base" if name == "known_lost" else "known questions are not lost"
        lines.append(f"  given up, so that {why}: {names[name]} at most {limit:.0%}, now {share:.1%}")
    return "\n".join(lines)
