"""Routers that nothing trains: what each scores the memories of a bank for a question. They are what the gate must beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.bank.bank import MemoryBank
from lorary.routing.encoder import Encoder
from lorary.routing.gate import cosines
from lorary.routing.lexicon import Lexicon, Words, letter_grams
from lorary.routing.starting import mean_key

Scores = Float[Tensor, "questions memories"]
Rival = Callable[[Sequence[str]], Scores]
CENTROID, CENTROID_ELSE_ALL = "nearest centroid", "centroid from 0.75 on, else all alike"
SUM = "z-scores, passages + 4-grams"
GATE, POLICY = "gate", "policy"
NAMES = (
    GATE,
    POLICY,
    "index of questions",
    "embeddings, passages",
    "embeddings, questions and passages",
    "BM25, words of questions",
    "BM25, words of documents",
    "BM25, 4-grams of questions",
    "BM25, 4-grams of documents",
    SUM,
    CENTROID,
    CENTROID_ELSE_ALL,
)
"""All routers of the study, as its tables have them; all but the first two are untrained."""
SURE = 0.75
"""Cosine similarity from which on the rule `CENTROID_ELSE_ALL` chooses one memory, as the router of `multilobe` does."""


def rivals(bank: MemoryBank, encoder: Encoder) -> dict[str, Rival]:
    """Name → router. A memory's score is that of its best question or passage; its documents together are one text.

    BM25 is the project's `Lexicon`, whose weights are those of the library `bm25s`: the order of the memories is the
    library's, a score is a share of what the question's words weigh.
    """
    questions = {memory.name: memory.wordings for memory in bank}
    passages = {memory.name: [passage.text for passage in memory.passages] for memory in bank}
    whole = {name: ["\n".join(texts)] if texts else [] for name, texts in passages.items()}
    asked, read = _by_meaning(questions, encoder), _by_meaning(passages, encoder)
    centroids = torch.stack([mean_key(memory, encoder.dimension) for memory in bank])
    grams = _by_words(whole, letter_grams)

    def near_centroid(texts: Sequence[str]) -> Scores:
        return cosines(encoder.encode(texts), centroids)

    routers: tuple[Rival, ...] = (
        asked,
        read,
        lambda texts: torch.maximum(asked(texts), read(texts)),
        _by_words(questions),
        _by_words(whole),
        _by_words(questions, letter_grams),
        grams,
        lambda texts: standardised(read(texts)) + standardised(grams(texts)),
        near_centroid,
        near_centroid,
    )
    return dict(zip(NAMES[2:], routers, strict=True))


def standardised(scores: Scores) -> Scores:
    """The scores of each question less their mean over the memories, by their standard deviation; 0 where all are alike."""
    apart = scores - scores.mean(-1, keepdim=True)
    return apart / apart.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-9)


def _by_words(
    texts_of: Mapping[str, Sequence[str]], split: Callable[[Sequence[str]], Sequence[Words]] | None = None
) -> Rival:
    lexicon = Lexicon(split)
    for name, texts in texts_of.items():
        lexicon.add(name, texts)
    return lambda texts: lexicon.votes(texts, list(texts_of))


def _by_meaning(texts_of: Mapping[str, Sequence[str]], encoder: Encoder) -> Rival:
    """The best cosine similarity with a text of each memory, 0 for one without texts."""
    owner = torch.tensor([number for number, texts in enumerate(texts_of.values()) for _ in texts], dtype=torch.long)
    keys = encoder.encode([text for texts in texts_of.values() for text in texts])

    def scores(texts: Sequence[str]) -> Scores:
        similarity = encoder.encode(texts) @ keys.T
        best = torch.full((len(texts), len(texts_of)), -1.0)
        best = best.scatter_reduce(1, owner.expand_as(similarity), similarity, "amax")
        return best.masked_fill(best == -1.0, 0.0)

    return scores
