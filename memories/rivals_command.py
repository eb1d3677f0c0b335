"""The commands `rival-answers` and `rival-scores`; `gate-study` runs the latter in a process of its own."""

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
    from lorary.memories.rival_answers import rival_answers as run

    passed = ("rival", "out", "questions", "seconds", "batch_size", "lr", "seed", "quiet")
    told = run(given.bank, **{name: getattr(given, name) for name in passed})
    if given.json:
        print(json.dumps(told))
        return
    trained = f"trained {told['seconds_training']:.0f} s ({told['steps']} steps), " if "steps" in told else ""
    print(f"{given.rival}: {trained}{told['questions']} questions answered in {told['seconds_answering']:.0f} s")
    print(f"answers: {given.out}")
