"""Bank → gate: `train_router` trains the gate with Lightning, calibrates the policy and saves the composite."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger

from lorary.bank.bank import MemoryBank
from lorary.bank.files import BankError
from lorary.base.loading import Base, load_base
from lorary.model.composite import assemble
from lorary.model.configuration import LoraryConfig
from lorary.model.modeling import LoraryForCausalLM
from lorary.router_training.calibration import calibrate
from lorary.router_training.data import RoutingData, read_questions
from lorary.router_training.initial import start_from, start_reading
from lorary.router_training.module import GateTraining, Weights, as_of_now
from lorary.router_training.settings import Training
from lorary.routing.encoder import load_encoder
from lorary.routing.router import Router


def train_router(
    bank: str | Path | MemoryBank,
    *,
    out: str | Path,
    training: Training | None = None,
    base: Base | None = None,
    unrelated: str | Path | None = None,
    init_from: str | Path | None = None,
    resume: str | Path | None = None,
    encoder: str | None = None,
    quiet: bool = False,
) -> LoraryForCausalLM:
    """Trains a gate for a bank, calibrates the policy, saves the composite at `out` and returns it.

    Args:
        unrelated: JSONL of questions that no memory answers; a shipped set by default.
        init_from: folder of a composite whose gate to start from; memories of the same name keep their keys.
        resume: a checkpoint (of the gate alone) to go on from.
        encoder: another than the bank's: the composite's facts are embedded anew, the bank stays as it is.

    Raises:
        EncoderError: an encoder that cannot be loaded.
        BankError: an empty bank, one whose memories hold no facts to train on, or a gate of another encoder.
    """
    training = training or Training()
    opened = MemoryBank.load(bank) if isinstance(bank, (str, Path)) else bank
    if not any(memory.facts for memory in opened):
        raise BankError("the bank holds no memory with facts, so there is nothing to train a gate on; add facts first")
    if encoder is not None and (other := load_encoder(encoder)).name != opened.encoder:
        opened = opened.with_encoder(other)
    questions = read_questions(unrelated)
    began = time.perf_counter()
    loaded = base or load_base(opened.base, revision=opened.revision)
    mixed = {"top_k": training.top_k, "top_p": training.top_p}
    config = LoraryConfig(
        text_config=loaded.model.config,
        granularity=training.granularity,
        features=training.gate_features(),
        policy=mixed,
        split_layer=opened.split_layer,
        trained=opened.names,
    )
    model = assemble(opened, loaded, config=config)
    if init_from is not None:
        start_from(model.gate, opened, Path(init_from))
        if training.granularity == "token" and bool(model.gate.hidden_mean.any()):
            raise BankError(
                f"{init_from}: its gate reads the hidden states of whole queries, not of tokens; start from a composite "
                "that was trained with --granularity token, or from nothing"
            )
    needs_model = training.language_weight > 0 or "hidden" in model.gate.features
    data = RoutingData(
        model.router,
        questions,
        batch_size=training.batch_size,
        seed=training.seed,
        model=model if needs_model else None,
        unknown_names=training.unknown_names,
    )
    trainer = fit(model.router, data, training, Path(out), model=model, resume=resume, quiet=quiet)
    limits = {"max_wrong_routes": training.max_wrong_routes, "max_known_lost": training.max_known_lost}
    figures = calibrate(model.router, data, **limits)
    config.policy = {**figures["policy"], **mixed}
    model.router.policy = config.routing_policy()
    config.router_training = {**asdict(training), "seconds": round(time.perf_counter() - began, 1), **figures}
    if trainer.is_global_zero:
        model.save_pretrained(out)
    return model


def fit(
    router: Router,
    data: RoutingData,
    training: Training,
    out: Path,
    *,
    model: LoraryForCausalLM | None = None,
    resume: str | Path | None = None,
    quiet: bool = False,
    callbacks: Sequence[lightning.Callback] = (),
) -> lightning.Trainer:
    """Runs Lightning's Trainer on the router's gate; checkpoints and CSV logs lie under `out/training`.

    The gate of the epoch with the lowest validation loss stays (without validation wordings, that of the last).

    Args:
        callbacks: more of Lightning's, beside those that the training needs.
    """
    lightning.seed_everything(training.seed, verbose=False)
    weights = Weights(
        language=training.language_weight,
        route=training.route_weight,
        none=training.none_weight,
        balance=training.balance_weight,
        z=training.z_weight,
    )
    module = GateTraining(router.gate, weights, lr=training.lr, model=model)
    data.language_rows = training.language_rows if training.language_weight else 0
    folder = out / "training"
    best, own = _callbacks(folder, data, training, quiet)
    trainer = lightning.Trainer(
        max_epochs=training.max_epochs,
        accelerator=training.accelerator,
        devices=training.devices,
        strategy=training.strategy,
        precision=training.precision,  # type: ignore[arg-type]
        callbacks=[*own, *callbacks],
        logger=CSVLogger(folder, name="logs"),
        log_every_n_steps=1,
        enable_progress_bar=not quiet,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,  # what mixtures keep from a validation pass must serve a training step
        use_distributed_sampler=False,  # the data makes its own, which one process has too
    )
    router.gate.requires_grad_(False)
    # Only what the features use: with many devices, torch waits for the gradient of everything that is to be trained.
    for weight in (router.gate.none, *(w for feature in router.gate.features for w in router.gate.parts_of(feature))):
        weight.requires_grad_(True)
    if data.trained.pooled is not None:
        centred = training.granularity == "query"
        start_reading(router.gate, data.trained.pooled, data.trained.embedding, centred=centred)
    router.gate.train()
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(resume) if resume else None, weights_only=True)
    finally:
        router.gate.requires_grad_(False).eval()
    if best.monitor and best.best_model_path:
        state = torch.load(best.best_model_path, weights_only=True)["state_dict"]
        kept = as_of_now(state, router.gate)
        router.gate.load_state_dict({name.removeprefix("gate."): tensor for name, tensor in kept.items()})
    if model is not None:
        model.eval()
    return trainer


def _callbacks(
    folder: Path, data: RoutingData, training: Training, quiet: bool
) -> tuple[ModelCheckpoint, list[lightning.Callback]]:
    """(the one that knows the best epoch, all)."""
    judged = bool((data.validation.memory < data.wordings.memories).any())
    best = ModelCheckpoint(
        folder / "checkpoints",
        filename="gate-{epoch}",
        monitor="validation/loss" if judged else None,
        save_last=True,
        save_on_train_epoch_end=not judged,
        enable_version_counter=False,
    )
    callbacks: list[lightning.Callback] = [best]
    if judged:
        callbacks.append(EarlyStopping("validation/loss", patience=training.patience))
    if not quiet:
        callbacks.append(RichProgressBar())
    return best, callbacks
