"""Training on two devices, as two CPU processes, against one."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from lorary.base.loading import load_base
from lorary.model.composite import assemble
from lorary.model.configuration import LoraryConfig
from lorary.bank.bank import MemoryBank
from lorary.router_training.data import RoutingData, read_questions
from lorary.router_training.settings import Training
from lorary.router_training.training import fit

bank, out, devices, language = MemoryBank.load(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
base = load_base(bank.base, dtype=torch.float32)
config = LoraryConfig(text_config=base.model.config, features=("embedding", "asked", "names"))
model = assemble(bank, base, config=config)
data = RoutingData(model.router, read_questions()[:20], batch_size=8, seed=0, model=model if language else None)
weights = {"language_weight": language, "language_rows": 3, "route_weight": 1 - language, "none_weight": 1 - language}
strategy = "ddp" if devices > 1 else "auto"
training = Training(max_epochs=3, batch_size=8, devices=devices, strategy=strategy, **weights)
trainer = fit(model.router, data, training, out, model=model, quiet=True)
assert trainer.world_size == devices
if trainer.is_global_zero:
    asked = model.router.features(["Who cooks at Ormen?", "Which oil burns?", "What is the capital of Peru?"])
    torch.save((model.gate.state_dict(), model.router.logits(asked).softmax(-1)), out / "gate.pt")
"""


@pytest.mark.parametrize("language", [0, 1])
def test_two_processes_train_the_same_gate_as_one(bank, tmp_path, language):
    """By the labels; and by the language-model loss alone, of three answers a step: two on one device, one on the other."""
    bank.save(tmp_path / "bank")
    (tmp_path / "train.py").write_text(SCRIPT)
    gates = []
    for devices in (1, 2):
        out = tmp_path / str(devices)
        given = [str(tmp_path / "bank"), str(out), str(devices), str(language)]
        command = [sys.executable, str(tmp_path / "train.py"), *given]
        ran = subprocess.run(command, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        gates.append(torch.load(out / "gate.pt", weights_only=True))
    (one, told_by_one), (_, told_by_two) = gates
    moved = (one["from_embedding"] - torch.eye(len(one["from_embedding"]))).abs().max()
    assert moved > 1e-3
    assert torch.allclose(told_by_one, told_by_two, atol=5e-3)
