"""Asking one after the other without a server: `python -m lorary.research.serve_alone COMPOSITE BASE DTYPE PROMPTS`."""

from __future__ import annotations

import json
import sys
import time

import torch
from transformers import logging as transformers_logging

from lorary.model.composite import load_composite


def measure(folder: str, base: str, dtype: str, given: str) -> dict[str, float]:
    """`rate`, tokens a second of `generate` on prompts that the router routes, one after the other.

    Args:
        given: JSON of (the tokens of each prompt, tokens of an answer).
    """
    prompts, answer = json.loads(given)
    model = load_composite(folder, base=base, dtype=dtype)

    def ask(ids: list[int]) -> None:
        inputs = torch.tensor([ids])
        mask = torch.ones_like(inputs)
        model.generate(
            input_ids=inputs, attention_mask=mask, max_new_tokens=answer, min_new_tokens=answer, do_sample=False
        )

    ask(prompts[-1])
    for number in range(len(model.memories)):
        model.factors.stack((number,))
    begun = time.perf_counter()
    for ids in prompts:
        ask(ids)
    return {"rate": round(len(prompts) * answer / (time.perf_counter() - begun), 2)}


if __name__ == "__main__":
    transformers_logging.set_verbosity_error()
    print(json.dumps(measure(*sys.argv[1:])))
