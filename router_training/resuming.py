"""Which checkpoints a training goes on from: those that the same training left, on the same bank."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lorary.errors import LoraryError
from lorary.router_training.queries import Queries
from lorary.router_training.settings import LIMITS, Training
from lorary.routing.gate import Gate
from lorary.routing.router import Router
from lorary.tables import counted

KEY = "lorary"
"""Of a checkpoint: what the training was told and trained on."""
_MAY_CHANGE = (
    *("features", "max_epochs", "patience", "top_k", "top_p", "unknown_names", *LIMITS),
    *("accelerator", "devices", "strategy", "precision"),
)
"""Settings that a resumed run may have others of. (The gate itself tells its features.)"""
_PARTS = ("state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers")


class CheckpointError(LoraryError):
    """A checkpoint that a training cannot go on from: says why, and what to do."""


def record(router: Router, training: Training, trained: Queries, validation: Queries) -> dict[str, Any]:
    """What must be the same for a run to go on as if it had never stopped, in plain JSON types."""
    settings = {name: value for name, value in asdict(training).items() if name not in _MAY_CHANGE}
    examples = [[e.text, e.memory, e.answer] for queries in (trained, validation) for e in queries.examples]
    return {
        "memories": list(router.bank.names),
        "features": list(router.gate.features),
        "encoder": router.bank.encoder,
        "base": router.bank.fingerprint,
        **settings,
        "questions": hashlib.sha256(json.dumps(examples).encode()).hexdigest()[:12],
    }


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The checkpoint in a file, on the CPU.

    Raises:
        CheckpointError: no file, or one that no training of a gate left.
    """
    path = Path(path)
    if path.is_dir():
        inside = sorted(str(file.relative_to(path)) for file in path.rglob("*.ckpt"))
        raise CheckpointError(
            f"{path} is a folder; give one of its checkpoints: {inside}"
            if inside
            else f"{path} is a folder without checkpoints; give a file that a training left, OUT/training/checkpoints/last.ckpt"
        )
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a checkpoint, OUT/training/checkpoints/last.ckpt")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what the bytes happen to lead to
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint; give a file that a training left, "
            "OUT/training/checkpoints/last.ckpt (`--init-from` takes the folder of a composite)"
        ) from error
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    missing = [name for name in _PARTS if name not in parts]
    weights = parts.get("state_dict") or {"": None}
    if missing or not all(name.startswith("gate.") for name in weights):
        raise CheckpointError(
            f"{path} is not a checkpoint of a gate's training"
            + (f" (it has no {missing[0]!r})" if missing else "")
            + "; give a file that `lorary train-router` left, OUT/training/checkpoints/last.ckpt"
        )
    return parts


def check(path: str | Path, checkpoint: Mapping[str, Any], own: Mapping[str, Any], gate: Gate) -> None:
    """Checks that a checkpoint is of the training that is to go on.

    Args:
        own: this training's `record`.

    Raises:
        CheckpointError: it was left by one on another bank, with other features or settings.
    """
    theirs = checkpoint.get(KEY) or {}
    for name in own:
        if name in theirs and theirs[name] != own[name]:
            raise CheckpointError(f"{path} {_difference(name, theirs[name], own[name])}")
    shapes = {f"gate.{name}": weight.shape for name, weight in gate.state_dict().items()}
    for name, weight in checkpoint["state_dict"].items():
        if name not in shapes or weight.shape != shapes[name]:
            size = tuple(shapes[name]) if name in shapes else "none"
            raise CheckpointError(
                f"{path}: its {name!r} is {tuple(weight.shape)}, this bank and these features need {size}; "
                "go on with the bank and features that it was trained with, or train anew"
            )


def _difference(name: str, theirs: Any, own: Any) -> str:
    if name == "memories":
        return (
            f"was trained on a bank of {counted(len(theirs), 'memory')}, {_listed(theirs)}; this bank holds {len(own)}, "
            f"{_listed(own)}; train anew, with --init-from a composite to keep what its gate learned"
        )
    if name == "questions":
        return (
            "was trained on other questions: the facts' wordings, answers or the unrelated questions have changed since; "
            "train anew, with --init-from a composite to keep what its gate learned"
        )
    if name in ("encoder", "base"):
        return f"was trained on a bank of another {name}, {theirs!r}, not {own!r}; train anew"
    return f"was trained with {name} {theirs!r}, not {own!r}; go on with the same, or train anew without --resume"


def _listed(names: list[str]) -> str:
    return f"{names[:5]}"[:-1] + (", …]" if len(names) > 5 else "]")


def epochs_begun(checkpoint: Mapping[str, Any]) -> int:
    """How many epochs the training had begun when it left the checkpoint."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["started"])


def to_validation(checkpoint: Mapping[str, Any]) -> None:
    """Makes a checkpoint that was left between an epoch's last step and its validation go on with that validation.

    Lightning 2.6 would take the epoch for done: it skips the validation and the whole epoch after it.
    """
    loop = checkpoint["loops"]["fit_loop"]
    batches, validation = loop["epoch_loop.batch_progress"], loop["epoch_loop.val_loop.batch_progress"]
    if batches["is_last_batch"] and batches["total"]["completed"] < batches["total"]["processed"]:
        for counts in (batches["total"], batches["current"]):
            counts["completed"] = counts["processed"]
        for counts in (validation["total"], validation["current"]):  # begun, none done
            counts.update(ready=1, started=1, processed=0, completed=0)
        validation["is_last_batch"] = False
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
