"""What the tests of exports share: one prompt's logits, and the command on banks that were saved."""

from __future__ import annotations

import torch
from conftest import empty_bank, save_adapter

from lorary.__main__ import main

IDS = torch.tensor([[5, 71, 130, 9, 200, 33, 7, 301]])


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def export(saved, *options):
    """The exit status of `lorary export`; `saved` is a bank, its folder and the folder to write into."""
    return main(["export", saved[1], "--out", str(saved[2]), "--dtype", "float32", *options])


def saved_bank(bank, tmp_path):
    """(a bank, its folder once saved, the folder to write into)."""
    return bank, str(bank.save(tmp_path / "bank")), tmp_path / "out"


def mixed_ranks(model, folder):
    """An adapter with patterns of ranks and alphas, and rsLoRA."""
    config = {"r": 2, "lora_alpha": 3, "target_modules": ["up_proj", "down_proj", "k_proj"], "use_rslora": True}
    return save_adapter(model, folder, 7, **config, rank_pattern={"up_proj": 5}, alpha_pattern={"1.mlp.down_proj": 9})


def mixed_bank(base, tmp_path):
    """The same of a bank of one memory with mixed ranks, and its folder from PEFT."""
    folder = mixed_ranks(base.model, tmp_path / "adapters" / "mixed")
    bank = empty_bank(base)
    bank.add(folder, same_base=True)
    return bank, str(bank.save(tmp_path / "mixed_bank")), tmp_path / "out", folder
