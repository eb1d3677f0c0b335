"""Measures of routers: top-1 with intervals, AUROC, and the rivals that need no training."""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lorary.memory import MemoryBank
from lorary.router import mean_key


def auroc(known: Float[Tensor, " known"], unrelated: Float[Tensor, " unrelated"]) -> float:
    """The probability that a known question scores above an unrelated one, ties counting half (Mann and Whitney)."""
    higher = (known[:, None] > unrelated).double() + (known[:, None] == unrelated).double() / 2
    return float(higher.mean())


def interval(right: Sequence[int], facts: Sequence[str], resamples: int = 2000) -> dict[str, float]:
    """The mean with its 95 % percentile bootstrap interval: keys value, low, high.

    Wordings of one fact stand or fall together, so facts are resampled, not wordings.
    """
    number = {fact: i for i, fact in enumerate(dict.fromkeys(facts))}
    of = torch.tensor([number[fact] for fact in facts])
    hits = torch.zeros(len(number)).index_add(0, of, torch.tensor(right, dtype=torch.float))
    asked = torch.bincount(of).float()
    generator, means = torch.Generator().manual_seed(0), []
    for _ in range(resamples):
        drawn = torch.randint(len(number), (len(number),), generator=generator)
        means.append(hits[drawn].sum() / asked[drawn].sum())
    low, high = torch.stack(means).quantile(torch.tensor([0.025, 0.975])).tolist()
    return {"value": round(float(hits.sum() / asked.sum()), 4), "low": round(low, 4), "high": round(high, 4)}


def centroid_scores(bank: MemoryBank, queries: Float[Tensor, "queries d"]) -> Float[Tensor, "queries memories"]:
    """The cosine similarity of each query and each memory's mean embedding."""
    return queries @ functional.normalize(torch.stack([mean_key(m, queries.shape[1]) for m in bank]), dim=-1).T


class WordScores:
    """BM25 (Robertson and Zaragoza 2009, by bm25s) over the trained wordings of a bank: the best one counts."""

    def __init__(self, bank: MemoryBank) -> None:
        self.memories = len(bank)
        self.owner: Int[Tensor, " wordings"] = torch.tensor(
            [number for number, memory in enumerate(bank) for fact in memory.facts for _ in fact.trained]
        )
        self._bm25 = bm25s.BM25()
        wordings = [wording for memory in bank for fact in memory.facts for wording in fact.trained]
        self._bm25.index(_words(wordings), show_progress=False)

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "queries memories"]:
        """Each memory's best score for each text, 0 where no word is shared."""
        best = []
        for words in _words(texts):
            known = [word for word in words if word in self._bm25.vocab_dict]
            found = self._bm25.get_scores(known) if known else np.zeros(len(self.owner), dtype=np.float32)
            scores = torch.from_numpy(found)
            best.append(torch.zeros(self.memories).scatter_reduce(0, self.owner, scores, "amax"))
        return torch.stack(best)


def _words(texts: Sequence[str]) -> list[list[str]]:
    return bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)  # type: ignore
