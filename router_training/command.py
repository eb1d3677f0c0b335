"""The commands `train-router`, `route-bench`, `route-facts` and `gate-study`."""

from __future__ import annotations

import json
import logging

from jsonargparse import ArgumentParser

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
