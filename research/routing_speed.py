"""The time to route one question among many memories with documents, the encoder apart: on made-up text of real words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lorary.bank.bank import MemoryBank
from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.bank.memory import Memory
from lorary.progress import progress_bars
from lorary.research.questions import Remembered
from lorary.router_training.settings import Training
from lorary.routing.encoder import EMBEDDED, SentenceEncoder, load_encoder
from lorary.routing.policy import Policy
from lorary.routing.router import Router
from lorary.routing.starting import new_gate

_PASSAGE, _QUESTION = 50, 10
"""Words of a passage and of a question."""


def routing_speed(
    memories: int = 1000,
    passages: int = 100,
    wordings: int = 10,
    questions: int = 200,
    quiet: bool = False,
) -> dict[str, Any]:
    """Milliseconds to route one question, from its embedding to its route: median, what nine tenths lie between, processor.

    The words are those of the embedded encoder's vocabulary, commonest first. It embeds nothing: vectors are drawn.

    Args:
        memories: how many there are to choose from.
        passages: of each memory.
        wordings: trained questions of each memory.
        questions: how many are routed, one at a time.
    """
    encoder, random, generator = load_encoder(EMBEDDED), Random(0), torch.Generator().manual_seed(0)
    sentence = _sentences(_words(encoder), random)

    def near(centre: Float[Tensor, "_ embedding"], count: int) -> Float[Tensor, "count embedding"]:
        spread = torch.randn(count, encoder.dimension, generator=generator) / encoder.dimension**0.5
        return functional.normalize(centre + spread, dim=-1)

    bank = MemoryBank("none", "", "none", {}, "")
    with progress_bars(quiet) as bars:
        bar = bars.start("making memories", memories)
        for number in range(memories):
            name, centre = f"memory-{number}", near(torch.zeros(1, encoder.dimension), 1)
            documents = tuple(Passage(text, "") for text, _ in zip(sentence, range(passages), strict=False))
            facts = tuple(Fact(name, _asks(random.choice(documents).text, random), "answer") for _ in range(wordings))
            keys, passage_keys = near(centre, wordings), near(centre, passages)
            bank.memories[name] = Memory(
                name, {}, {}, facts, keys, tuple(range(wordings)), documents=documents, passage_keys=passage_keys
            )
            bar.advance()
    vectors = {}
    for memory in random.choices(list(bank), k=questions):
        passage = random.randrange(passages)
        vectors[_asks(memory.documents[passage].text, random)] = near(memory.passage_keys[passage : passage + 1], 1)[0]
    elsewhere = near(torch.zeros(1, encoder.dimension), 1)[0]  # of a question without its names
    embedded = Remembered(
        lambda texts: torch.stack([vectors.get(text, elsewhere) for text in texts]), encoder.dimension, "none"
    )
    gate = new_gate(bank, embedded, 0, Training().gate_features()).requires_grad_(False)
    router = Router(bank, gate, Policy(), lambda: embedded)
    first = next(iter(vectors))
    began = time.perf_counter()
    router.decide(router.features([first]))  # makes the indices
    seconds = time.perf_counter() - began
    spent = [_seconds(router, text) for text in vectors]
    clock, processor = (sorted(1000 * each for each in kind) for kind in zip(*spent, strict=True))
    low, median, high = (round(clock[int(share * (len(clock) - 1))], 2) for share in (0.05, 0.5, 0.95))
    counts = {"memories": memories, "passages": passages, "wordings": wordings, "questions": len(spent)}
    return {
        **counts,
        "low": low,
        "median": median,
        "high": high,
        "processor": round(processor[len(processor) // 2], 2),
        "seconds_to_make": round(seconds, 1),
    }


def _seconds(router: Router, text: str) -> tuple[float, float]:
    """(seconds by the clock, of processor time) to route a question."""
    clock, processor = time.perf_counter(), time.process_time()
    router.decide(router.features([text]))
    return time.perf_counter() - clock, time.process_time() - processor


def _words(encoder: SentenceEncoder) -> list[str]:
    """The whole words of an encoder's vocabulary, in its order."""
    vocabulary = encoder.model.tokenizer.get_vocab()
    return [word for word in sorted(vocabulary, key=vocabulary.__getitem__) if word.isascii() and word.isalpha()]


def _sentences(words: list[str], random: Random) -> Iterator[str]:
    """Passages of words as frequent as words are (Zipf), one in twelve with a capital."""
    while True:
        drawn = (words[int(len(words) ** random.random()) - 1] for _ in range(_PASSAGE))
        yield " ".join(word.title() if random.random() < 1 / 12 else word for word in drawn)


def _asks(passage: str, random: Random) -> str:
    """A question made of words of a passage."""
    return " ".join(random.sample(passage.split(), _QUESTION)) + "?"
