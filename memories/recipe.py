"""How memories are written: every choice, as one record that is the command line too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lorary.errors import LoraryError

FORMATS = ("questions", "cloze", "text", "sequels", "uses")

QUICK: dict[str, Any] = {"lr": 6e-3, "max_epochs": 6, "texts_a_pass": 12}
"""What of a recipe writes in three fifths of the time, and is recalled less: 0.90 of the demo, not 0.93 to 0.95."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How memories are written. In code `recall` may be None: then no memory stops before the last pass;
    `texts_a_pass` and `compared` may be None: then there is no limit.

    Args:
        r: LoRA rank.
        lora_alpha: LoRA scaling numerator; the update is scaled by lora_alpha / r.
        split_layer: the first adapted layer; by default at two thirds of the base's layers, but ten are adapted, or half of a
            base that has fewer than twenty.
        target_modules: names of the adapted linears; by default the MLP's.
        lr: AdamW learning rate; after a short rise it falls linearly to nothing at the cap. Linears whose weights in the base
            are small learn slower.
        batch_size: rows a step, over all memories written together; small sets take smaller steps.
        compared: tokens of the vocabulary, drawn anew for each step, that an answer's tokens are told from besides those of
            all answers; a large number means the whole vocabulary.
        max_epochs: passes over the trained wordings after which a memory stops as it is.
        recall: share of its facts, recalled under validation wordings, at which a memory stops.
        validation_wordings: wordings a fact that are kept from training, to stop by, where a fact names none itself; by default
            none of fewer than five, one of five to seven, two from eight on.
        thinned_copies: copies of each trained wording that leave words out, drawn once; for facts with few wordings.
        thinned_share: share of the words that such a copy leaves out.
        formats: texts of a fact that are trained on: `questions` (its wordings), `cloze` (its statement with a gap where the
            answer stood), `text` (its statement as it stands, every token learnt), `sequels` (its answer before and behind
            another's, and its statement in running text, so that several memories may answer and write in turn), `uses` (the
            fact turned around, completed, told in a sentence and asked behind other text, all made of its statement by rule).
        uses_share: share of a memory's subjects whose facts `uses` shows, the others being asked only; for studies.
        texts: texts of each fact that has fewer than four wordings: it gets others by rule, and copies that leave words out; 0
            for none.
        texts_a_pass: most texts of each fact that a pass shows, the next ones each time, and of these the certain ones one
            time in four; by default all. A memory of few facts shows more than a small number: 96 texts in all.
        visits: texts of each fact that a pass shows, in turn, whatever their number and however certain; for studies.
        memories_at_once: memories that are written together, in one process; several such groups go side by side.
        seed: seed for initial weights and order.
    """

    r: int = 8
    lora_alpha: int = 16
    split_layer: int | None = None
    target_modules: tuple[str, ...] | None = None
    lr: float = 3e-3
    batch_size: int = 8
    compared: int | None = 4096
    max_epochs: int = 8
    recall: float | None = 1.0
    validation_wordings: int | None = None
    thinned_copies: int = 0
    thinned_share: float = 0.3
    formats: tuple[str, ...] = ("questions", "cloze")
    uses_share: float = 1.0
    texts: int = 20
    texts_a_pass: int | None = None
    visits: int | None = None
    memories_at_once: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.formats or set(self.formats) - set(FORMATS):
            raise LoraryError(f"formats must be some of {list(FORMATS)}, {list(self.formats)} given")
        for name, least in (("texts_a_pass", 1), ("visits", 1), ("compared", 1)):
            if (count := getattr(self, name)) is not None and count < least:
                raise LoraryError(f"{name} must be {least} or more, or none, {count} given")
        for name in ("r", "lora_alpha", "batch_size", "max_epochs", "memories_at_once"):
            if getattr(self, name) < 1:
                raise LoraryError(f"{name} {getattr(self, name)} must be 1 or more")
        for name in ("validation_wordings", "thinned_copies", "texts"):
            if (getattr(self, name) or 0) < 0:
                raise LoraryError(f"{name} {getattr(self, name)} must be 0 or more")
        if not self.lr > 0:
            raise LoraryError(f"lr {self.lr} must be above 0")
        for name in ("recall", "thinned_share", "uses_share"):
            if (share := getattr(self, name)) is not None and not 0 <= share <= 1:
                raise LoraryError(f"{name} {share} is no share; give 0 to 1")

    @property
    def rows(self) -> dict[str, Any]:
        """What of it decides on the texts that a memory is trained on, as `rows.rows` takes it."""
        return {
            "copies": self.thinned_copies,
            "share": self.thinned_share,
            "seed": self.seed,
            "formats": self.formats,
            "texts": self.texts,
            "uses_share": self.uses_share,
        }


def falling(lr: float, epochs: float, cap: int) -> float:
    """The learning rate after so many of at most `cap` epochs: a short rise, then a straight fall to nothing.

    Under a constant rate recall of unseen wordings swings by several points from one epoch to the next.
    """
    return lr * min(1.0, 0.05 + epochs / 0.3) * max(0.0, 1 - epochs / cap)
