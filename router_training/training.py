"""Bank → gate: `train_router` trains the gate with Lightning, calibrates the policy and saves the composite."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger

from lorary.bases import Base, load_base
from lorary.composite import assemble
from lorary.configuration import LoraryConfig
from lorary.files import BankError
from lorary.memory import MemoryBank
from lorary.modeling import LoraryForCausalLM
from lorary.router_training.calibration import calibrate
from lorary.router_training.data import RoutingData, read_questions
from lorary.router_training.module import GateTraining, Weights


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the gate is trained.

    Args:
        granularity: "query" fixes the route for a request, "token" decides at each position.
        features: of the gate; None means embedding and votes, and for tokens the hidden state too.
        max_epochs: passes over the trained wordings and unrelated questions.
        batch_size: queries a step.
        lr: AdamW learning rate.
        language_weight: of the language-model loss of the answer through the mixture (0 skips its passes).
        route_weight, none_weight, balance_weight, z_weight: of the other loss terms.
        top_k: memories that a query may mix.
        accelerator, devices, strategy, precision: passed to Lightning's Trainer.
        seed: of order and dropout.
    """

    granularity: str = "query"
    features: tuple[str, ...] | None = None
    max_epochs: int = 10
    batch_size: int = 32
    lr: float = 3e-3
    language_weight: float = 0.0
    route_weight: float = 1.0
    none_weight: float = 1.0
    balance_weight: float = 0.01
    z_weight: float = 1e-4
    top_k: int = 1
    accelerator: str = "cpu"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    seed: int = 0


def train_router(
    bank: str | Path | MemoryBank,
    *,
    out: str | Path,
    training: Training | None = None,
    base: Base | None = None,
    unrelated: str | Path | None = None,
    resume: str | Path | None = None,
    quiet: bool = False,
) -> LoraryForCausalLM:
    """Trains a gate for a bank, calibrates the policy, saves the composite at `out` and returns it.

    Args:
        unrelated: JSONL of questions that no memory answers; a shipped set by default.
        resume: a checkpoint (of the gate alone) to go on from.

    Raises:
        BankError: an empty bank, or one whose memories hold no facts to train on.
    """
    training = training or Training()
    opened = MemoryBank.load(bank) if isinstance(bank, (str, Path)) else bank
    if not any(memory.facts for memory in opened):
        raise BankError("the bank holds no memory with facts, so there is nothing to train a gate on; add facts first")
    questions = read_questions(unrelated)
    began = time.perf_counter()
    loaded = base or load_base(opened.base, revision=opened.revision)
    features = training.features or (
        ("embedding", "votes", "hidden") if training.granularity == "token" else ("embedding", "votes")
    )
    config = LoraryConfig(
        text_config=loaded.model.config,
        granularity=training.granularity,
        features=features,
        policy={"top_k": training.top_k},
        split_layer=opened.split_layer,
        trained=opened.names,
    )
    model = assemble(opened, loaded, config=config)
    data = RoutingData(model, questions, batch_size=training.batch_size, seed=training.seed)
    fit(model, data, training, Path(out), resume=resume, quiet=quiet)
    figures = calibrate(model, data)
    config.policy = {**figures["policy"], "top_k": training.top_k}
    model.router.policy = config.routing_policy()
    config.router_training = {**asdict(training), "seconds": round(time.perf_counter() - began, 1), **figures}
    model.save_pretrained(out)
    return model


def fit(
    model: LoraryForCausalLM,
    data: RoutingData,
    training: Training,
    out: Path,
    *,
    resume: str | Path | None = None,
    quiet: bool = False,
) -> lightning.Trainer:
    """Runs Lightning's Trainer on the gate; checkpoints and CSV logs lie under `out/training`."""
    lightning.seed_everything(training.seed, verbose=False)
    weights = Weights(
        language=training.language_weight,
        route=training.route_weight,
        none=training.none_weight,
        balance=training.balance_weight,
        z=training.z_weight,
    )
    module = GateTraining(model, weights, lr=training.lr)
    folder = out / "training"
    checkpoint = ModelCheckpoint(
        folder / "checkpoints",
        filename="gate-{epoch}",
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    trainer = lightning.Trainer(
        max_epochs=training.max_epochs,
        accelerator=training.accelerator,
        devices=training.devices,
        strategy=training.strategy,
        precision=training.precision,  # type: ignore[arg-type]
        callbacks=[checkpoint] if quiet else [checkpoint, RichProgressBar()],
        logger=CSVLogger(folder, name="logs"),
        log_every_n_steps=1,
        enable_progress_bar=not quiet,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    model.gate.requires_grad_(True).train()
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(resume) if resume else None, weights_only=True)
    finally:
        model.gate.requires_grad_(False)
    model.eval()
    return trainer
