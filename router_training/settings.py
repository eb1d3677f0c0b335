"""Training: how a gate is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lorary.errors import LoraryError

GRANULARITIES = ("query", "token")
LABELS = ("names", "loss")
LIMITS = ("max_known_lost", "max_strangers_routed", "max_unrelated_routed", "max_wrong_routes")
"""What a policy may do at most, as shares of queries."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the gate is trained.

    Args:
        granularity: how often the gate decides: "query" once for a request, "token" at each position.
        features: what the gate reads; by default asked, names and contents, and for tokens the window, too.
        max_epochs: passes over the trained wordings and unrelated questions, at most.
        patience: epochs without a lower loss on validation wordings after which training ends; the best epoch's gate stays.
        batch_size: queries a step, over all devices.
        lr: AdamW learning rate of the first epoch, halved with each further one; a tenth for the projection of the
            embedding.
        labels: whose an example is: "names" takes the adapter that it names, and the loss where it names none; "loss" always
            takes the memory under which its completion has the least loss, where it has one.
        language_weight: weight of the language-model loss of the answer through the mixture; 0 skips its passes.
        language_rows: queries of a step that the language-model loss looks at, drawn by the seed; of validation wordings the
            same share. Nearly all of its time goes by them.
        route_weight: weight of the loss of the right memory.
        none_weight: weight of the loss of none.
        balance_weight: weight of the loss of memories that are chosen unevenly.
        z_weight: weight of the loss of large logits.
        top_k: memories that a query may mix at most.
        top_p: share of the gate's probability of any memory that what is mixed must have; the fewest such are mixed.
        unknown_names: calibrate on validation wordings about names that no memory knows, too, so that they are left to the
            base.
        max_known_lost: share of known queries that thresholds may leave unrouted.
        max_strangers_routed: share of questions on topics that are left out, or about unknown names, that may be routed.
        max_unrelated_routed: share of unrelated questions that may be routed.
        max_wrong_routes: share of wrong memories among routed queries, for a gate that reads no contents.
        accelerator: device that Lightning's Trainer takes.
        devices: number of devices that Lightning's Trainer takes.
        strategy: how Lightning's Trainer spreads the work.
        precision: precision that Lightning's Trainer computes in.
        seed: seed for batch order and dropout.
    """

    granularity: str = "query"
    features: tuple[str, ...] | None = None
    max_epochs: int = 4
    patience: int = 2
    batch_size: int = 64
    lr: float = 3e-3
    labels: str = "names"
    language_weight: float = 0.0
    language_rows: int = 8
    route_weight: float = 1.0
    none_weight: float = 1.0
    balance_weight: float = 0.01
    z_weight: float = 1e-4
    top_k: int = 1
    top_p: float = 1.0
    unknown_names: bool = True
    max_known_lost: float = 0.02
    max_strangers_routed: float = 0.08
    max_unrelated_routed: float = 0.01
    max_wrong_routes: float = 0.05
    accelerator: str = "cpu"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.granularity not in GRANULARITIES:
            raise LoraryError(f"granularity {self.granularity!r} is unknown; it is one of {list(GRANULARITIES)}")
        if self.labels not in LABELS:
            raise LoraryError(f"labels {self.labels!r} are unknown; they are one of {list(LABELS)}")
        if "window" in (self.features or ()) and self.granularity == "query":
            raise LoraryError("the window is read at each token; give granularity 'token', or features without it")
        if self.language_rows < 1:
            raise LoraryError(f"language_rows {self.language_rows} must be 1 or more; language_weight 0 does without")
        for name in ("max_epochs", "patience", "batch_size", "top_k", "devices"):
            if getattr(self, name) < 1:
                raise LoraryError(f"{name} {getattr(self, name)} must be 1 or more")
        if not self.lr > 0:
            raise LoraryError(f"lr {self.lr} must be above 0")
        if not 0 < self.top_p <= 1:
            raise LoraryError(f"top_p {self.top_p} must be above 0 and at most 1")
        for name in ("language_weight", "route_weight", "none_weight", "balance_weight", "z_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise LoraryError(f"{name} {getattr(self, name)} must be a finite number, 0 or more")
        for name in LIMITS:
            if not 0 <= getattr(self, name) <= 1:
                raise LoraryError(f"{name} {getattr(self, name)} must be a share, from 0 to 1")

    def gate_features(self) -> tuple[str, ...]:
        """The features that the gate gets."""
        from lorary.routing.gate import DEFAULT_FEATURES, TOKEN_FEATURES  # imports torch; the options need none

        return self.features or (TOKEN_FEATURES if self.granularity == "token" else DEFAULT_FEATURES)
