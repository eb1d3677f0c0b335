"""Adapters that plain PEFT trains and saves: what people bring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional

from lorary.bank.adapters import WEIGHTS
from lorary.bank.bank import MemoryBank
from lorary.base.layers import block_linears, decoder_layers, fingerprint, layers_path
from lorary.base.loading import Base, load_base
from lorary.base.rows import SplitRows, default_split
from lorary.progress import ProgressBar, progress_bars
from lorary.randomness import seeded
from lorary.router_training.queries import Example, answer_row
from lorary.routing.encoder import EMBEDDED

RANK, BATCH, RATE = 8, 8, 2e-3


def train_adapter(
    base: Base,
    pairs: Sequence[tuple[str, str]],
    folder: Path,
    *,
    steps: int,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> float:
    """The last steps' mean loss; a LoRA adapter on prompts and completions lies in `folder`, as PEFT saves it.

    It adapts the upper third of the layers, so what lies below runs once a row. The rate falls to zero in a line.

    Args:
        base: in fp32; it is left as it was.
    """
    split = default_split(base.model)
    layers = list(range(split, len(decoder_layers(base.model))))
    config = LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=["gate_proj", "up_proj", "down_proj"],
        layers_to_transform=layers,
        task_type="CAUSAL_LM",
    )
    rows = [answer_row(base.tokenizer, Example(text, 0, completion)) for text, completion in pairs]
    with seeded(seed):
        model = get_peft_model(base.model, config)
        answers = SplitRows(base.model, split, rows, int(base.tokenizer.pad_token_id))
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
        losses = list[float]()
        order = list[int]()
        for _ in range(steps):
            while len(order) < BATCH:
                order += torch.randperm(len(rows)).tolist()
            drawn, order = order[:BATCH], order[BATCH:]
            logits, wanted, _ = answers.logits(drawn)
            loss = functional.cross_entropy(logits, wanted)
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            advance()
        model.save_pretrained(str(folder))
        model.unload()
    return sum(losses[-5:]) / len(losses[-5:])


def bank_of(
    adapters: Mapping[str, tuple[Sequence[tuple[str, str]], int]], base: str, folder: Path, quiet: bool
) -> MemoryBank:
    """The bank of adapters without facts, which lie in a folder or are trained first.

    Args:
        adapters: name → (what it is trained on, for how many steps).
    """
    wanted = [(name, own) for name, own in adapters.items() if not (folder / name / WEIGHTS).exists()]
    loaded = load_base(base, dtype=torch.float32)
    with progress_bars(quiet) as bars:
        bar: ProgressBar = bars.start("adapters by PEFT", sum(steps for _, (_, steps) in wanted))
        for name, (pairs, steps) in wanted:
            advance = partial(bar.advance, 1, name)
            train_adapter(loaded, pairs, folder / name, steps=steps, seed=0, advance=advance)
    bank = MemoryBank(
        loaded.name,
        fingerprint(loaded.model),
        EMBEDDED,
        block_linears(loaded.model),
        layers_path(loaded.model),
        loaded.revision,
    )
    for name in adapters:
        bank.add(folder / name, same_base=True)
    return bank
