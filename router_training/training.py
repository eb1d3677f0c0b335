"""Bank → gate: `train_router` trains the gate with Lightning, calibrates the policy and saves the composite."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from lorary.bank.bank import MemoryBank
from lorary.bank.files import BankError
from lorary.base.loading import Base, load_base
from lorary.model.composite import assemble
from lorary.model.configuration import LoraryConfig
from lorary.model.modeling import LoraryForCausalLM
from lorary.progress import progress_bars
from lorary.randomness import seeded
from lorary.router_training.calibration import calibrate
from lorary.router_training.callbacks import LOSS, Advance, BestGate, quiet_lightning
from lorary.router_training.data import RoutingData, read_questions
from lorary.router_training.examples import read_examples, with_examples
from lorary.router_training.going_on import warn_of_memories_that_end
from lorary.router_training.initial import start_from, start_reading
from lorary.router_training.module import GateTraining, Weights
from lorary.router_training.resuming import CheckpointError, check, epochs_begun, read_checkpoint, record
from lorary.router_training.settings import Training
from lorary.router_training.source_calibration import calibrate_sources
from lorary.router_training.tokens import train_reading
from lorary.routing.encoder import load_encoder
from lorary.routing.router import Router


def train_router(
    bank: str | Path | MemoryBank,
    *,
    out: str | Path,
    training: Training | None = None,
    base: Base | None = None,
    unrelated: str | Path | None = None,
    examples: str | Path | None = None,
    init_from: str | Path | None = None,
    resume: str | Path | None = None,
    encoder: str | None = None,
    quiet: bool = False,
) -> LoraryForCausalLM:
    """Trains a gate for a bank, calibrates the policy, saves the composite at `out` and returns it.

    The caller's random numbers go on after it as if nothing had been drawn; `training.seed` rules those in it.

    Args:
        unrelated: JSONL of questions that no memory answers; a shipped set by default.
        examples: JSONL of prompts, with completions, adapters' names or both (`examples.read_examples`); the memories of the
            composite hold the prompts, in place of earlier ones, and the bank stays as it is.
        init_from: folder of a composite whose gate to start from; memories of the same name keep their keys.
        resume: a checkpoint to go on from, which an earlier run left under its `out/training/checkpoints`.
        encoder: another than the bank's: the composite's facts are embedded anew, the bank stays as it is.

    Raises:
        EncoderError: an encoder that cannot be loaded.
        BankError: an empty bank, one whose memories hold nothing to train on, or a gate of another encoder or base.
        ExampleError: examples that cannot be used.
        CheckpointError: `resume` is no checkpoint of this training.
    """
    training = training or Training()
    if resume is not None:
        if init_from is not None:
            raise CheckpointError(
                "--resume and --init-from are both given, but a checkpoint holds a gate of its own; "
                "give --resume to go on with that training, or --init-from to start another"
            )
        read_checkpoint(resume)  # what cannot be read is told before anything is loaded
    own = MemoryBank.load(bank) if isinstance(bank, (str, Path)) else bank
    if examples is None:
        _check_texts(own)
    if training.granularity == "token":
        warn_of_memories_that_end(own)
    given = read_examples(examples, own) if examples is not None else []
    own = _embedded(own, encoder)
    questions = read_questions(unrelated)
    began = time.perf_counter()
    with seeded(training.seed):
        base = base or load_base(own.base, revision=own.revision)
        own, taken = with_examples(own, given, partial(_untrained, own, base, training), training.labels, quiet)
        _check_texts(own)
        model = _untrained(own, base, training)
        if init_from is not None:
            start_from(model.gate, own, Path(init_from), by_token=training.granularity == "token")
        by_token = model.gate.reading is not None
        # A reading is trained on its own, and all of the language model's loss with it.
        first = replace(training, language_weight=0.0) if by_token else training
        needs_model = first.language_weight > 0 or "hidden" in model.gate.features
        data = RoutingData(
            model.router,
            [*questions, *taken.unrelated],
            batch_size=training.batch_size,
            seed=training.seed,
            model=model if needs_model else None,
            unknown_names=training.unknown_names,
            completions=taken.completions,
            kept=taken.kept,
        )
        trainer = fit(model.router, data, first, Path(out), model=model, resume=resume, quiet=quiet)
        figures = calibrate(model.router, data, training)
        model.config.policy |= figures["policy"]
        model.router.policy = model.config.routing_policy()
        if by_token:
            figures["tokens"] = train_reading(model, data, training, quiet=quiet)
        calibrate_sources(model, data)
        seconds = round(time.perf_counter() - began, 1)
        told = {"examples": taken.figures} if given else {}
        model.config.router_training = {**asdict(training), "seconds": seconds, **told, **figures}
        if trainer.is_global_zero:
            model.save_pretrained(out)
    return model


def _check_texts(bank: MemoryBank) -> None:
    """Raises BankError where no memory holds anything to be routed by."""
    if not any(memory.facts or memory.examples for memory in bank):
        raise BankError(
            "the bank holds no memory with facts, so there is nothing to train a gate on; add facts, or give prompts of its "
            "memories with --examples"
        )


def _embedded(bank: MemoryBank, encoder: str | None) -> MemoryBank:
    """The bank with keys by an encoder, its own by default."""
    if encoder is not None and (other := load_encoder(encoder)).name != bank.encoder:
        return bank.with_encoder(other)
    if any(memory.passages and not len(memory.passage_keys) for memory in bank):
        return bank.with_encoder(load_encoder(bank.encoder))  # an earlier version embedded wordings alone
    return bank


def _untrained(bank: MemoryBank, base: Base, training: Training) -> LoraryForCausalLM:
    """The composite of a bank, with a gate that nothing trained."""
    features = training.gate_features()
    policy = {"top_k": training.top_k, "top_p": training.top_p}
    policy["whole"] = training.granularity == "query" or "window" in features
    if "window" in features:
        policy["sources"] = ["gate"]  # the index knows the whole question alone
    config = LoraryConfig(
        text_config=base.model.config,
        granularity=training.granularity,
        features=features,
        policy=policy,
        split_layer=bank.split_layer,
        trained=bank.names,
    )
    return assemble(bank, base, config=config)


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

    The gate of the epoch with the lowest validation loss stays (without validation wordings, that of the last). A run that
    is resumed from any of its checkpoints ends with the gate that it would have had without the cut.

    Args:
        resume: a checkpoint to go on from; what it was trained on and with must be the same, but not for how long.
        callbacks: more of Lightning's, beside those that the training needs.

    Raises:
        CheckpointError: `resume` is no checkpoint of this training.
    """
    own = record(router, training, data.trained, data.validation)
    epochs = training.max_epochs
    if resume is not None:
        checkpoint = read_checkpoint(resume)
        check(resume, checkpoint, own, router.gate)
        epochs = max(epochs, epochs_begun(checkpoint))  # what is behind a run cannot be taken back
    weights = Weights(
        language=training.language_weight,
        route=training.route_weight,
        none=training.none_weight,
        balance=training.balance_weight,
        z=training.z_weight,
    )
    module = GateTraining(router.gate, weights, lr=training.lr, model=model, record=own)
    data.language_rows = training.language_rows if training.language_weight else 0
    judged = bool((data.validation.memory < data.wordings.memories).any())
    best = BestGate(training.patience) if judged else None
    steps = epochs * math.ceil(len(data.trained) / training.batch_size)
    router.gate.requires_grad_(False)
    # Only what the features use: with many devices, torch waits for the gradient of everything that is to be trained.
    for weight in router.gate.used:
        weight.requires_grad_(True)
    if data.trained.features.hidden is not None:
        centred = training.granularity == "query"
        start_reading(router.gate, data.trained.features.hidden, data.trained.features.embedding, centred=centred)
    router.gate.train()
    try:
        with seeded(training.seed), quiet_lightning(), progress_bars(quiet) as bars:
            bar = Advance(bars.start("training the gate", steps))
            used = [bar, *([best] if best else []), _checkpoints(out / "training", judged), *callbacks]
            trainer = _trainer(training, epochs, out / "training", used)
            place = str(Path(resume).resolve()) if resume is not None else None
            trainer.fit(module, datamodule=data, ckpt_path=place, weights_only=True)
    finally:
        router.gate.requires_grad_(False).eval()
    if best is not None and best.weights:
        router.gate.load_state_dict({name.removeprefix("gate."): tensor for name, tensor in best.weights.items()})
    if model is not None:
        model.eval()
    return trainer


def _trainer(
    training: Training, epochs: int, folder: Path, callbacks: Sequence[lightning.Callback]
) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator=training.accelerator,
        devices=training.devices,
        strategy=training.strategy,
        precision=training.precision,  # type: ignore[arg-type]
        callbacks=list(callbacks),
        logger=CSVLogger(folder, name="logs"),
        log_every_n_steps=1,
        enable_progress_bar=False,  # ours tells of the whole training, Lightning's of an epoch
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,  # hidden states kept from a validation pass must serve a training step
        use_distributed_sampler=False,  # the data makes its own, which one process has too
    )


def _checkpoints(folder: Path, judged: bool) -> ModelCheckpoint:
    """Leaves the best epoch's checkpoint and the last one's."""
    return ModelCheckpoint(
        folder / "checkpoints",
        filename="gate-{epoch}",
        monitor=LOSS if judged else None,
        save_last=True,
        save_on_train_epoch_end=not judged,
        enable_version_counter=False,
    )
