"""Training: how a gate is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the gate is trained.

    Args:
        granularity: "query" fixes the route for a request, "token" decides at each position.
        features: of the gate; None means the default, and for tokens the hidden state too.
        max_epochs: passes over the trained wordings and unrelated questions, at most.
        patience: ends after so many epochs without a lower loss on validation wordings; the best epoch's gate stays.
        batch_size: queries a step, over all devices.
        lr: AdamW learning rate of the first epoch, halved with each further one; a tenth for the projection of the
            embedding.
        language_weight: of the language-model loss of the answer through the mixture (0 skips its passes).
        language_rows: of the `batch_size` queries of a step, how many that loss looks at, drawn by the seed; of validation
            wordings the same share. Nearly all of its time goes by them.
        route_weight, none_weight, balance_weight, z_weight: of the other loss terms.
        top_k: memories that a query may mix at most.
        top_p: it mixes the fewest that together have this share of the gate's probability of any memory.
        unknown_names: whether calibration also asks validation wordings about names that no memory knows, so that they are
            left to the base.
        max_wrong_routes: of the queries that are routed, the share with a wrong memory that calibration aims at.
        max_known_lost: the share of known queries that thresholds may leave unrouted.
        accelerator, devices, strategy, precision: passed to Lightning's Trainer.
        seed: of order and dropout.
    """

    granularity: str = "query"
    features: tuple[str, ...] | None = None
    max_epochs: int = 4
    patience: int = 2
    batch_size: int = 64
    lr: float = 3e-3
    language_weight: float = 0.0
    language_rows: int = 8
    route_weight: float = 1.0
    none_weight: float = 1.0
    balance_weight: float = 0.01
    z_weight: float = 1e-4
    top_k: int = 1
    top_p: float = 1.0
    unknown_names: bool = True
    max_wrong_routes: float = 0.05
    max_known_lost: float = 0.02
    accelerator: str = "cpu"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.language_rows < 1:
            raise ValueError(f"language_rows {self.language_rows} must be 1 or more; language_weight 0 does without")

    def gate_features(self) -> tuple[str, ...]:
        """The features that the gate gets."""
        from lorary.routing.gate import DEFAULT_FEATURES, TOKEN_FEATURES  # imports torch; the options need none

        return self.features or (TOKEN_FEATURES if self.granularity == "token" else DEFAULT_FEATURES)
