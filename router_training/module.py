"""GateTraining: the LightningModule that holds a composite and trains its gate, all else frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from lorary.model.modeling import LoraryForCausalLM
from lorary.router_training.data import Batch
from lorary.router_training.labels import soft_labels
from lorary.routing.gate import Gate, mixture_weights
from lorary.routing.policy import Policy

SELECTIONS = ("soft", "hard", "straight-through")


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
    weight: Float[Tensor, " batch"] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """The terms that need no language model.

    route: cross-entropy on the right memory; none: the same on unrelated questions; balance: memories·Σ f·p of the
    Switch Transformer (Fedus et al. 2021, arXiv 2101.03961, eq. 4); z: the squared log-partition (Zoph et al. 2022,
    arXiv 2202.08906, eq. 5).

    Args:
        target: a distribution over the memories and none for each query, in place of its one right memory.
        weight: of each query in the route term; all alike where it is None.
    """
    losses = functional.cross_entropy(logits, memory if target is None else target, reduction="none")
    unrelated = (memory == logits.shape[1] - 1).float()
    known = 1 - unrelated
    count, others = over_devices(known.sum()).clamp(min=1e-9), over_devices(unrelated.sum()).clamp(min=1e-9)
    probabilities = logits.softmax(-1)[:, :-1] * known.unsqueeze(-1)
    chosen = functional.one_hot(logits[:, :-1].argmax(-1), logits.shape[1] - 1) * known.unsqueeze(-1)
    weighed = known if weight is None else known * weight
    return {
        "route": (losses * weighed).sum() / over_devices(weighed.sum()).clamp(min=1e-9),
        "none": (losses * unrelated).sum() / others,
        "balance": probabilities.shape[1] * (chosen.sum(0) / count * probabilities.sum(0) / count).sum(),
        "z": logits.logsumexp(-1).square().mean(),
    }


def hard(batch: Batch) -> Bool[Tensor, " batch"]:
    """Which known queries are hard: the nearest of the other wordings is another memory's."""
    memories = batch.votes.shape[1]
    own = functional.one_hot(batch.memory, memories + 1)[:, :memories].bool()
    mine = batch.votes.masked_fill(~own, -2.0).amax(-1)
    return (batch.memory < memories) & (batch.votes.masked_fill(own, -2.0).amax(-1) >= mine)


def logits_of(gate: Gate, batch: Batch) -> Float[Tensor, "batch memories_and_none"]:
    """The gate's logits on a batch's features."""
    return gate(*_features(batch))


def terms_of(gate: Gate, batch: Batch) -> dict[str, Float[Tensor, "batch memories"]]:
    """The gate's unscaled terms on a batch's features."""
    return gate.terms(*_features(batch))


def _features(batch: Batch) -> tuple[Any, ...]:
    """What the gate takes, in its order."""
    return batch.embedding, batch.votes, batch.pooled, batch.asked, batch.lexical, batch.names


def select(
    probabilities: Float[Tensor, "batch memories_and_none"], selection: str, policy: Policy
) -> Float[Tensor, "batch memories"]:
    """The weights of the memories in training.

    soft: all memories, by their probabilities; hard: those that the policy would mix; straight-through: forward as
    hard, backward as soft (Bengio et al. 2013, arXiv 1308.3432).
    """
    soft = mixture_weights(probabilities, probabilities.shape[-1] - 1)
    if selection == "soft":
        return soft
    hard = mixture_weights(probabilities, policy.top_k, policy.top_p)
    return hard if selection == "hard" else hard.detach() + soft - soft.detach()


def as_of_now(state: Mapping[str, Tensor], gate: Gate) -> dict[str, Tensor]:
    """A checkpoint's tensors; those of an earlier version lack how hidden states differ, since its gate read them raw."""
    raw = {"hidden_mean": torch.zeros_like(gate.hidden_mean), "hidden_spread": torch.ones_like(gate.hidden_spread)}
    return {**{f"gate.{name}": tensor for name, tensor in raw.items()}, **state}


class GateTraining(lightning.LightningModule):
    """Trains the gate of a composite against its frozen base and memories.

    Args:
        gate: trained in place.
        weights: of the loss terms; each term is logged by its name.
        lr: learning rate of the first epoch, halved with each further one; the projection of the embedding has a tenth,
            since it starts from a good place.
        selection: which memories the language-model loss sees (`select`).
        label_temperature: of labels by the measured losses of a batch (`soft_labels`); None labels by facts.
        hard_weight: of a hard query (`hard`) in the route term, where others weigh 1.
        model: the composite, for the language-model loss.
    """

    def __init__(
        self,
        gate: Gate,
        weights: Weights,
        *,
        lr: float,
        policy: Policy | None = None,
        selection: str = "soft",
        label_temperature: float | None = None,
        hard_weight: float = 1.0,
        model: LoraryForCausalLM | None = None,
    ) -> None:
        super().__init__()
        self.gate, self.label_temperature, self.hard_weight = gate, label_temperature, hard_weight
        self._model = (model,)  # in a tuple: neither moved, nor saved, nor trained by Lightning
        self.weights, self.lr, self.policy, self.selection = weights, lr, policy or Policy(), selection

    def terms(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """(the loss terms, the logits) of a batch."""
        logits, target = logits_of(self.gate, batch), None
        if self.label_temperature is not None:
            assert batch.losses is not None, "labels by loss need measured losses"
            target = soft_labels(batch.losses, batch.memory, self.label_temperature)
        weight = torch.where(hard(batch), self.hard_weight, 1.0) if self.hard_weight != 1 else None
        terms = loss_terms(logits, batch.memory, target, weight)
        if self.weights.language:
            terms["language"] = self.language_loss(logits, batch)
        return terms, logits

    def language_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The language model's mean loss on the tokens of the batch's answers, through the mixture that the gate weighs."""
        (model,), answers, total, count = self._model, batch.answers, logits.sum() * 0, logits.new_zeros(())
        assert model is not None, "the language-model loss needs a model"
        assert answers is not None, "the language-model loss needs queries that were made with a model"
        if batch.answered:
            places, rows = [*batch.answered], [*batch.answered.values()]
            weights = select(logits[places].softmax(-1), self.selection, self.policy)
            model._route.set(weights.unsqueeze(1))
            try:
                said, labels, _ = answers.logits(rows)
            finally:
                model._route.set(None)
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
        checkpoint["state_dict"] = as_of_now(checkpoint["state_dict"], self.gate)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Only the gate: `_model` is hidden from Lightning, so nothing frozen can be here."""
        assert all(name.startswith("gate.") for name in checkpoint["state_dict"])
