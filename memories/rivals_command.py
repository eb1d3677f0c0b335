"""The command `rival-scores`, which `gate-study` runs in a process of its own."""

from __future__ import annotations

import json

from jsonargparse import ArgumentParser


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
    from lorary.memories.rivals import rival_scores as run

    passed = ("study", "rival", "seed", "seconds", "batch_size", "lr")
    print(json.dumps(run(given.bank, **{name: getattr(given, name) for name in passed})))
