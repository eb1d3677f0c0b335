"""A training goes on from any checkpoint it left, as if it had never stopped; of others it says what they are."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lorary.bank.bank import MemoryBank
from lorary.bank.files import BankError
from lorary.errors import LoraryError
from lorary.model.composite import assemble
from lorary.model.configuration import LoraryConfig
from lorary.router_training.data import RoutingData, read_questions
from lorary.router_training.resuming import CheckpointError
from lorary.router_training.settings import Training
from lorary.router_training.training import fit, train_router
from lorary.routing.policy import Policy
from lorary.routing.router import Router
from lorary.routing.starting import new_gate

SHORT = Training(max_epochs=3, batch_size=8, language_rows=3)


def every_checkpoint(folder):
    """Callbacks that leave a checkpoint after each step, each validation and each epoch."""
    common = {"dirpath": folder, "save_top_k": -1, "monitor": "step"}
    return [
        ModelCheckpoint(filename="step{step}", every_n_train_steps=1, **common),
        ModelCheckpoint(filename="validated{step}", every_n_epochs=1, save_on_train_epoch_end=False, **common),
        ModelCheckpoint(filename="epoch{step}", every_n_epochs=1, save_on_train_epoch_end=True, **common, mode="max"),
    ]


@pytest.mark.parametrize(
    ("kept", "changes"),
    [
        (True, {}),
        (False, {}),
        (True, {"patience": 1, "lr": 3.0, "max_epochs": 6}),
        (True, {"language_weight": 1.0}),
        (True, {"granularity": "token"}),
    ],
    ids=["validation", "no validation", "ends early", "language loss", "tokens"],
)
def test_a_run_that_was_cut_anywhere_ends_with_the_gate_of_one_that_was_not(
    bank, kept_bank, base, encoder, tmp_path, kept, changes
):
    if not kept:
        plain = {m.name: replace(m, facts=tuple(replace(f, validation=()) for f in m.facts)) for m in kept_bank}
        bank = MemoryBank(**{**vars(bank), "memories": {name: m.with_keys(encoder) for name, m in plain.items()}})
    training = replace(SHORT, **changes)
    config = LoraryConfig(
        text_config=base.model.config,
        granularity=training.granularity,
        features=training.gate_features(),
        split_layer=bank.split_layer,
    )
    model = assemble(bank, base, encoder=encoder, config=config)
    data = RoutingData(model.router, read_questions()[:24], batch_size=8, seed=0, model=model)

    def run(place, resume=None, callbacks=()):
        gate = new_gate(bank, encoder, 32, model.gate.features)
        router = Router(bank, gate, Policy(), lambda: encoder)
        trainer = fit(
            router, data, training, tmp_path / place, model=model, resume=resume, callbacks=callbacks, quiet=True
        )
        return gate.state_dict(), trainer.global_step

    whole, steps = run("whole", callbacks=every_checkpoint(tmp_path / "cuts"))
    assert not changes.get("patience") or steps < 6 * len(data.train_dataloader())
    cuts = [*(tmp_path / "cuts").glob("*.ckpt"), *(tmp_path / "whole").rglob("*.ckpt")]
    assert len(cuts) >= steps + 6
    for cut in cuts[:: 2 if changes else 1]:
        gate, again = run(f"from {cut.stem}", resume=cut)
        assert all(torch.equal(gate[name], whole[name]) for name in whole), cut
        assert again == steps or cut.stem.startswith("gate"), cut


def test_a_run_goes_on_for_more_epochs_and_no_fewer(kept_bank, base, tmp_path):
    def run(place, epochs, **given):
        training = replace(SHORT, max_epochs=epochs)
        model = train_router(kept_bank, out=tmp_path / place, training=training, base=base, quiet=True, **given)
        return {name: weight.clone() for name, weight in model.gate.state_dict().items()}

    six, two = run("six", 6), run("two", 2)
    last = tmp_path / "two" / "training" / "checkpoints" / "last.ckpt"
    moved = last.rename(tmp_path / "moved.ckpt")
    for path in last.parent.glob("*"):
        path.unlink()  # a checkpoint holds all that it needs
    more, fewer = run("more", 6, resume=moved), run("fewer", 1, resume=moved)
    assert all(torch.equal(more[name], six[name]) for name in six)
    assert all(torch.equal(fewer[name], two[name]) for name in two)


@pytest.fixture
def checkpoint(kept_bank, base, tmp_path):
    train_router(kept_bank, out=tmp_path / "first", training=SHORT, base=base, quiet=True)
    return tmp_path / "first" / "training" / "checkpoints" / "last.ckpt"


def test_what_cannot_be_gone_on_with_is_told_in_one_error(checkpoint, kept_bank, base, encoder, tmp_path):
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.ckpt").write_bytes(checkpoint.read_bytes()[:2000])
    torch.save({"state_dict": {"other.weight": torch.zeros(2)}}, tmp_path / "foreign.ckpt")
    memories = dict(kept_bank.memories)
    grown = MemoryBank(**{**vars(kept_bank), "memories": memories | {"more": replace(memories["lamps"], name="more")}})
    shrunk = MemoryBank(**{**vars(kept_bank), "memories": {n: memories[n] for n in ("ormen", "velka")}})
    ormen = memories["ormen"]
    reworded = replace(ormen, facts=(replace(ormen.facts[0], answer="Brisk"), *ormen.facts[1:]))
    changed = MemoryBank(**{**vars(kept_bank), "memories": memories | {"ormen": reworded}})
    wrong = [
        (tmp_path / "first", {}, r"is a folder; give one of its checkpoints: \[.*last\.ckpt"),
        (tmp_path / "empty", {}, "is a folder without checkpoints"),
        (tmp_path / "none.ckpt", {}, "no such file"),
        (tmp_path / "settings.json", {}, "cannot be read as a checkpoint"),
        (tmp_path / "cut.ckpt", {}, "cannot be read as a checkpoint"),
        (tmp_path / "foreign.ckpt", {}, "is not a checkpoint of a gate's training"),
        (checkpoint, {"bank": grown}, "on a bank of 3 memories.*; this bank holds 4"),
        (checkpoint, {"bank": shrunk}, "on a bank of 3 memories.*; this bank holds 2"),
        (checkpoint, {"bank": changed}, "on other questions"),
        (checkpoint, {"training": replace(SHORT, lr=0.1)}, r"with lr 0\.003, not 0\.1"),
        (checkpoint, {"training": replace(SHORT, features=("names",))}, "with features .*'asked'.* not"),
        (checkpoint, {"training": replace(SHORT, granularity="token")}, "with features .* not .*'window'"),
        (checkpoint, {"init_from": tmp_path / "first"}, "are both given"),
    ]
    for resume, changes, message in wrong:
        given = {"bank": kept_bank, "training": SHORT, "base": base, "quiet": True, **changes}
        with pytest.raises(CheckpointError, match=message):
            train_router(given.pop("bank"), out=tmp_path / "second", resume=resume, **given)
        assert not (tmp_path / "second").exists()


def test_a_checkpoint_without_a_record_is_judged_by_its_shapes(checkpoint, kept_bank, base, tmp_path):
    saved = torch.load(checkpoint, weights_only=True)
    del saved["lorary"]
    torch.save(saved, checkpoint)
    train_router(kept_bank, out=tmp_path / "second", training=SHORT, base=base, resume=checkpoint, quiet=True)
    shrunk = MemoryBank(**{**vars(kept_bank), "memories": {n: kept_bank[n] for n in ("ormen", "velka")}})
    with pytest.raises(CheckpointError, match=r"'gate\.keys' is \(3, 384\), this bank .* need \(2, 384\)"):
        train_router(shrunk, out=tmp_path / "third", training=SHORT, base=base, resume=checkpoint, quiet=True)


def test_a_gate_to_start_from_is_a_composite_s_of_the_same_encoder(checkpoint, kept_bank, base, tmp_path):
    first = tmp_path / "first"
    (tmp_path / "settings.json").write_text("{}")
    for wrong in (checkpoint, tmp_path / "settings.json", tmp_path, tmp_path / "none"):
        with pytest.raises(BankError, match="holds no gate"):
            train_router(kept_bank, out=tmp_path / "second", base=base, init_from=wrong, quiet=True)
    config, manifest = (first / "config.json").read_text(), (first / "bank.json").read_text()
    (first / "config.json").write_text(config[:20])
    with pytest.raises(LoraryError, match=r"config\.json cannot be used"):
        train_router(kept_bank, out=tmp_path / "second", base=base, init_from=first, quiet=True)
    (first / "config.json").write_text(config)
    (first / "bank.json").write_text(json.dumps(json.loads(manifest) | {"encoder": "other/encoder"}))
    with pytest.raises(BankError, match="reads embeddings of 'other/encoder'"):
        train_router(kept_bank, out=tmp_path / "second", base=base, init_from=first, quiet=True)
    assert not (tmp_path / "second").exists()


RANDOM = """
import os, random, sys
import numpy, torch
from lorary.router_training import Training, train_router
from lorary.router_training.module import GateTraining

def states():
    name, keys, *rest = numpy.random.get_state()
    return random.getstate(), (name, keys.tolist(), *rest), torch.get_rng_state().tolist(), dict(os.environ)

def fails(*_):
    torch.rand(3), random.random(), numpy.random.rand()
    raise RuntimeError("in the middle of a step")

random.seed(5), numpy.random.seed(6), torch.manual_seed(7)
before = states()
train_router(sys.argv[1], out=sys.argv[2], training=Training(max_epochs=2), quiet=True)
assert states() == before, "after a training"
GateTraining.training_step = fails
try:
    train_router(sys.argv[1], out=sys.argv[2], quiet=True)
except RuntimeError as error:
    assert states() == before, "after an error"
    print(error)
"""


def test_training_leaves_the_caller_s_random_numbers_and_environment(kept_bank, tmp_path):
    """In a process of its own, since the checks of types in these tests draw from Python's random numbers."""
    command = [sys.executable, "-c", RANDOM, str(kept_bank.save(tmp_path / "bank")), str(tmp_path / "out")]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout.strip()) == (0, "in the middle of a step"), ran.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        {"patience": 0},
        {"max_epochs": 0},
        {"route_weight": -1.0},
        {"z_weight": float("nan")},
        {"max_wrong_routes": 5.0},
        {"max_known_lost": -0.1},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_setting_that_no_training_can_have_is_refused_by_name(wrong):
    with pytest.raises(LoraryError, match=next(iter(wrong))):
        Training(**wrong)
