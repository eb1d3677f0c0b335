"""GateTraining: the LightningModule that holds a composite and trains its gate, all else frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import lightning
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lorary.model.active_route import ActiveRoute, apply_route
from lorary.model.modeling import LoraryForCausalLM
from lorary.router_training.queries import Batch
from lorary.router_training.resuming import KEY, to_validation
from lorary.routing.gate import Gate
from lorary.routing.mixing import mixture_weights


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of the loss terms."""

    language: float
    route: float
    none: float
    balance: float
    z: float


def over_devices(count: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The mean of a count over the devices: torch averages their gradients, so a sum over it is as one device has it."""
    if not torch.distributed.is_initialized():
        return count
    total = count.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def loss_terms(
    logits: Float[Tensor, "batch memories_and_none"],
    memory: Int[Tensor, " batch"],
    target: Float[Tensor, "batch memories_and_none"] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """The terms that need no language model.

    route: cross-entropy on the right memory; none: the same on unrelated questions; balance: memories·Σ f·p of the
    Switch Transformer (Fedus et al. 2021, arXiv 2101.03961, eq. 4); z: the squared log-partition (Zoph et al. 2022,
    arXiv 2202.08906, eq. 5).

    Args:
        target: a distribution over the memories and none for each query, in place of its one right memory.
    """
    losses = functional.cross_entropy(logits, memory if target is None else target, reduction="none")
    unrelated = (memory == logits.shape[1] - 1).float()
    known = 1 - unrelated
    count, others = over_devices(known.sum()).clamp(min=1e-9), over_devices(unrelated.sum()).clamp(min=1e-9)
    probabilities = logits.softmax(-1)[:, :-1] * known.unsqueeze(-1)
    chosen = functional.one_hot(logits[:, :-1].argmax(-1), logits.shape[1] - 1) * known.unsqueeze(-1)
    return {
        "route": (losses * known).sum() / count,
        "none": (losses * unrelated).sum() / others,
        "balance": probabilities.shape[1] * (chosen.sum(0) / count * probabilities.sum(0) / count).sum(),
        "z": logits.logsumexp(-1).square().mean(),
    }


class GateTraining(lightning.LightningModule):
    """Trains the gate of a composite against its frozen base and memories.

    Args:
        gate: trained in place.
        weights: of the loss terms; each term is logged by its name.
        lr: learning rate of the first epoch, halved with each further one; the projection of the embedding has a tenth,
            since it starts from a good place.
        model: the composite, for the language-model loss.
        record: what each checkpoint tells of the training (`resuming.record`).
    """

    def __init__(
        self,
        gate: Gate,
        weights: Weights,
        *,
        lr: float,
        model: LoraryForCausalLM | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.gate, self.weights, self.lr = gate, weights, lr
        self.record = dict(record or {})
        self._model = (model,)  # in a tuple: neither moved, nor saved, nor trained by Lightning

    def terms(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """(the loss terms, the logits) of a batch."""
        # As if nothing could be looked up: what the contents say already would not be learned.
        logits = self.gate(replace(batch.features, contents=None))
        terms = loss_terms(logits, batch.memory, batch.target)
        if self.weights.language:
            terms["language"] = self.language_loss(logits, batch)
        return terms, logits

    def language_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The language model's mean loss on the tokens of the batch's answers, through all memories as the gate weighs them."""
        (model,), answers, total, count = self._model, batch.answers, logits.sum() * 0, logits.new_zeros(())
        assert model is not None, "the language-model loss needs a model"
        assert answers is not None, "the language-model loss needs queries that were made with a model"
        if batch.answered:
            places, rows = [*batch.answered], [*batch.answered.values()]
            weights = mixture_weights(logits[places].softmax(-1), logits.shape[-1] - 1)  # all memories, so all learn
            with apply_route(ActiveRoute(weights.unsqueeze(1))):
                said, labels, _ = answers.logits(rows)
            total = functional.cross_entropy(said, labels, reduction="sum").to(logits.device)
            count += len(labels)
        return total / over_devices(count).clamp(min=1e-9)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        terms, _logits = self.terms(batch)
        return self._log_sum("train", terms, len(batch.memory))

    def validation_step(self, batch: Batch, _: int) -> None:
        terms, logits = self.terms(batch)
        self._log_sum("validation", terms, len(batch.memory))
        right = (logits.argmax(-1) == batch.memory).float().mean()
        self.log("validation/top1", right, prog_bar=True, batch_size=len(batch.memory))

    def _log_sum(self, stage: str, terms: dict[str, Tensor], size: int) -> Tensor:
        total = sum((getattr(self.weights, name) * term for name, term in terms.items()), torch.tensor(0.0))
        for name, term in {**terms, "loss": total}.items():
            self.log(f"{stage}/{name}", term, prog_bar=name == "loss", batch_size=size)
        return total

    def configure_optimizers(self) -> Any:
        slow = [self.gate.from_embedding]
        rest = [weight for weight in self.gate.parameters() if weight is not slow[0]]
        groups: list[dict[str, Any]] = [{"params": rest}, {"params": slow, "lr": self.lr / 10}]
        optimizer = torch.optim.AdamW(groups, lr=self.lr, weight_decay=0.0)
        # It does not depend on how many epochs there will be, so that a run can be taken up for more of them.
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        to_validation(checkpoint)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Only the gate: `_model` is hidden from Lightning, so nothing frozen can be here."""
        assert all(name.startswith("gate.") for name in checkpoint["state_dict"])
        checkpoint[KEY] = self.record
