"""A measure of routers: the time a query."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact
from lorary.bank.memory import Memory
from lorary.routing.gate import DEFAULT_FEATURES
from lorary.routing.policy import Policy
from lorary.routing.router import Router, new_gate


def routing_milliseconds(memories: int = 1000, wordings: int = 250, queries: int = 100) -> dict[str, Any]:
    """The median time to route one query among so many memories, the encoder apart, and how the index searched."""
    generator = torch.Generator().manual_seed(0)

    def near(centre: Tensor, count: int) -> Tensor:
        spread = torch.randn(count, len(centre), generator=generator) / len(centre) ** 0.5
        return functional.normalize(centre + spread, dim=-1)

    random = Random(0)

    def word() -> str:
        """As frequent as words are: the rarer, the more of them there are (Zipf)."""
        return "".join("abcdefghij"[int(digit)] for digit in str(int(20_000 ** random.random())))

    def sentence() -> str:
        """Eight words, the last two of them a name."""
        return " ".join([*(word() for _ in range(6)), word().title(), word().title()])

    bank = MemoryBank("none", "", "none", {}, "")
    for number, centre in enumerate(functional.normalize(torch.randn(memories, 384, generator=generator))):
        name = f"memory-{number}"
        facts = tuple(Fact(name, sentence(), "answer") for _ in range(wordings))
        bank.memories[name] = Memory(name, {}, {}, facts, near(centre, wordings), tuple(range(wordings)))
    drawn = torch.randint(memories, (queries,), generator=generator).tolist()
    asked = {f"{i} {sentence()}": near(list(bank)[m].keys[0], 1)[0] for i, m in enumerate(drawn)}

    elsewhere = near(torch.zeros(384), 1)[0]

    class Known:
        name, dimension = "none", 384

        def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences embedding"]:
            return torch.stack([asked.get(sentence, elsewhere) for sentence in sentences])

    router = Router(bank, new_gate(bank, Known(), 0, DEFAULT_FEATURES).requires_grad_(False), Policy(), Known)
    router.decide(router.features([next(iter(asked))]))  # builds the indices
    spent = []
    for text in asked:
        began = time.perf_counter()
        router.decide(router.features([text]))
        spent.append(1000 * (time.perf_counter() - began))
    median = round(sorted(spent)[len(spent) // 2], 2)
    return {"memories": memories, "wordings": memories * wordings, "kind": router.index.kind, "median": median}
