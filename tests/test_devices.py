"""Training on two devices, as two CPU processes, against one."""

from __future__ import annotations

import json
import subprocess
import sys

import torch
from conftest import FACTS

SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from lorary.encoder import load_encoder
from lorary.facts import read_facts
from lorary.router import Router, new_gate
from lorary.router_training.benchmark import bank_of
from lorary.router_training.data import RoutingData, read_questions
from lorary.router_training.training import Training, fit
from lorary.routing import Policy

facts, out, devices = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
encoder = load_encoder()
bank = bank_of(list(read_facts(facts)), encoder)
router = Router(bank, new_gate(bank, encoder, 0, ("embedding", "asked", "votes")), Policy(), lambda: encoder)
data = RoutingData(router, read_questions()[:20], batch_size=8, seed=0)
training = Training(max_epochs=3, batch_size=8, devices=devices, strategy="ddp" if devices > 1 else "auto")
trainer = fit(router, data, training, out, quiet=True)
assert trainer.world_size == devices
if trainer.is_global_zero:
    asked = router.query(["Who cooks at Ormen?", "Which oil burns?", "What is the capital of Peru?"])
    torch.save((router.gate.state_dict(), router.logits(asked).softmax(-1)), out / "gate.pt")
"""


def test_two_processes_train_the_same_gate_as_one(tmp_path):
    lines = [json.dumps(fact.to_json()) for facts in FACTS.values() for fact in facts]
    (tmp_path / "facts.jsonl").write_text("\n".join(lines))
    (tmp_path / "train.py").write_text(SCRIPT)
    gates = []
    for devices in (1, 2):
        out = tmp_path / str(devices)
        command = [sys.executable, str(tmp_path / "train.py"), str(tmp_path / "facts.jsonl"), str(out), str(devices)]
        ran = subprocess.run(command, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        gates.append(torch.load(out / "gate.pt", weights_only=True))
    (one, told_by_one), (_, told_by_two) = gates
    moved = (one["from_embedding"] - torch.eye(len(one["from_embedding"]))).abs().max()
    assert moved > 1e-3
    assert torch.allclose(told_by_one, told_by_two, atol=5e-3)
