"""What the speed bench compares before it times anything: our outputs with the base's and with a peer's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lorary.bank.bank import MemoryBank
from lorary.base.loading import Base
from lorary.research.bench_cells import Cell
from lorary.research.bench_models import composite, long_prompt, questions
from lorary.research.bench_peers import LlamaCpp, peer_of
from lorary.research.settings import StudyError

MIXED = {"peft-mixed": "adapter_names", "polylora": "adapter_ids"}
"""A peer whose rows name an adapter each → the argument that names them."""
_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
"""How far our logits may lie from a peer's, as a share of the largest."""
_PROMPTS = 8
"""Prompts after which llama.cpp's likeliest tokens are compared."""
_LIKELIHOODS = 0.3
"""How far log-probabilities may lie from those of llama.cpp."""


@torch.inference_mode()
def compared(model: Any, bank: MemoryBank, base: Base, cell: Cell) -> dict[str, float]:
    """What lies between outputs that should be equal, as a share of the largest logit. Raises StudyError for too much."""
    ids = long_prompt(base.tokenizer, questions(bank)[0], 32)
    plain = base.model(input_ids=ids).logits
    if cell.way in ("arrow", "xlora"):
        return {}  # they weigh memories in ways of their own
    if isinstance(model, LlamaCpp):
        return _compared_likelihoods(model, bank, base)
    if cell.way in MIXED:
        ours, rows = composite(bank, base, "named"), bank.names[:2]
        ids = ids.repeat(2, 1)
        theirs = model(input_ids=ids, **{MIXED[cell.way]: rows}).logits
        return {"peer": _apart(theirs, ours(input_ids=ids, adapter_names=rows).logits, plain, cell)}
    peft = replace(cell, way="peft")
    ours, peer = (composite(bank, base, "named"), model) if cell == peft else (model, peer_of(peft, bank, base))
    if not torch.equal(ours(input_ids=ids, adapter_names=["__base__"]).logits, plain):
        raise StudyError("without a memory the composite does not give the base's logits bit for bit")
    named = ours(input_ids=ids, adapter_names=bank.names[:1]).logits
    return {"peer": _apart(peer(input_ids=ids).logits, named, plain, cell), "base": 0.0}


def _compared_likelihoods(model: LlamaCpp, bank: MemoryBank, base: Base) -> dict[str, float]:
    """How far log-probabilities of the likeliest next tokens lie apart, under a memory: llama.cpp multiplies with 8-bit
    states and a packed base."""
    ours, apart = composite(bank, base, "named"), list[float]()
    for question in questions(bank)[:_PROMPTS]:
        ids = long_prompt(base.tokenizer, question, 32)
        logprobs = ours(input_ids=ids, adapter_names=bank.names[:1]).logits[0, -1].float().log_softmax(-1)
        apart += [abs(logprob - float(logprobs[token])) for token, logprob in model.likeliest(ids, 0).items()]
    if not apart or max(apart) > _LIKELIHOODS:
        raise StudyError(f"llama.cpp's log-probabilities and ours differ by {max(apart, default=float('nan')):.2g}")
    return {"logprobs": round(max(apart), 4)}


def _apart(theirs: Tensor, ours: Tensor, plain: Tensor, cell: Cell) -> float:
    apart = float((theirs - ours).abs().max() / plain.abs().max())
    if apart > _TOLERANCE["bfloat16" if cell.light == "bfloat16" else cell.dtype] or torch.equal(theirs[:1], plain):
        raise StudyError(f"cell {cell.name!r}: our logits and the peer's differ by {apart:.2g} of the largest")
    return round(apart, 9)
