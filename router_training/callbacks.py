"""What Lightning does beside the steps: it keeps the best gate, ends early, leaves checkpoints and moves a bar."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

from lorary.progress import ProgressBar

LOSS = "validation/loss"
_KNOWN = (
    "does not have many workers",
    "Checkpoint directory .* exists",
    "The dirpath has changed",
    "lr_scheduler.step",
)
"""Warnings that say nothing here: the features are in memory, and checkpoints hold all that a resumed run needs."""


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Lightning greets, lists devices and gives tips at the level INFO; in the block only its warnings come through."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _KNOWN:
                warnings.filterwarnings("ignore", message=f".*{message}")
            yield
    finally:
        logger.setLevel(level)


class BestGate(EarlyStopping):
    """Ends the training when validation loss no longer falls, and keeps the gate of the epoch where it was lowest.

    The gate is a part of this callback's state, so each checkpoint holds all that a resumed run needs: no file of another
    folder, which may have been moved or written over since.

    Args:
        patience: epochs without a lower loss after which the training ends; a resumed run takes its own, not the checkpoint's.
    """

    def __init__(self, patience: int) -> None:
        # After validation, not after the epoch: a run that is resumed at the end of an epoch does not validate it again.
        super().__init__(LOSS, patience=patience, check_on_train_epoch_end=False)
        self.weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # A run that had ended early when its checkpoint was left has nothing to go on with.
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        before = self.best_score.clone()
        super().on_validation_end(trainer, pl_module)
        if not self.weights or bool(self.best_score < before):
            self.weights = {name: weight.detach().clone() for name, weight in pl_module.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})
        self.weights = state_dict["weights"]


class Advance(lightning.Callback):
    """Moves a bar on by one with each step, and tells the latest validation loss.

    Args:
        note: what the bar tells before that.
    """

    def __init__(self, bar: ProgressBar, note: str = "") -> None:
        self.bar, self.note = bar, note

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.bar.advance(trainer.global_step, self.note)  # what the checkpoint of a resumed run has behind it

    def on_train_batch_end(self, *_: Any) -> None:
        self.bar.advance(1, self.note)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        loss = trainer.callback_metrics.get(LOSS, torch.nan)
        self.bar.advance(0, f"{self.note}, validation loss {float(loss):.3f}".removeprefix(", "))
