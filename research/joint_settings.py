"""Settings of a joint study: what gates learn from, and how much is trained."""

from __future__ import annotations

from dataclasses import dataclass

from lorary.errors import LoraryError
from lorary.router_training.settings import Training

ARMS = {
    "names": "labels by the names that the examples bear",
    "names + language": "the same, and the language-model loss through the mixture",
    "loss": "labels by loss, no names",
    "loss + language": "the same, and the language-model loss through the mixture",
    "language": "the language-model loss alone: no names, no labels, keys that start by chance",
}


@dataclass(frozen=True, kw_only=True)
class JointDesign:
    """What a joint study trains.

    Args:
        steps: of an adapter of facts.
        short_steps: of the adapter that was trained too little.
        format_steps: of an adapter of a format.
        wrong: of the examples of "wrong names", how many are named after another adapter.
        seeds: how many gates of each kind, from seed 0; the adapters are of one seed.
        max_epochs: of a gate's training.
        batch_size: of a gate's training; the language-model loss looks at every example of a step.
        lr: of a gate's training.
    """

    steps: int = 120
    short_steps: int = 15
    format_steps: int = 48
    wrong: float = 0.3
    seeds: int = 3
    max_epochs: int = 4
    batch_size: int = 16
    lr: float = 1e-2

    def __post_init__(self) -> None:
        for name in ("steps", "short_steps", "format_steps", "seeds", "max_epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise LoraryError(f"{name} {getattr(self, name)} must be 1 or more")
        if not 0 <= self.wrong <= 1:
            raise LoraryError(f"wrong {self.wrong} must be a share, from 0 to 1")

    def training(self, arm: str, seed: int) -> Training:
        """How a gate of an arm is trained."""
        language = 1.0 if "language" in arm else 0.0
        return Training(
            max_epochs=self.max_epochs,
            patience=self.max_epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            language_weight=language,
            language_rows=self.batch_size,
            route_weight=0.0 if arm == "language" else 1.0,
            features=("asked",) if arm == "language" else None,
            seed=seed,
        )
