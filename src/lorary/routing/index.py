"""FactIndex: FAISS over fact embeddings → votes per memory. The fallback behind the gate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

EXACT_UP_TO = 20_000
_PROBES = 32


class FactIndex:
    """An inner-product index over one unit vector a trained wording; memories join and leave without a rebuild.

    Up to `exact_up_to` wordings it compares with every one (`kind` is "exact", and the order of facts does not matter);
    above, with those in the 32 nearest of about 2·√n lists (`kind` is "ivf"; Sivic and Zisserman 2003). The change is
    made once, when the size is passed; it is not HNSW, because FAISS cannot take vectors out of that.

    Args:
        dimension: of the embeddings.
        neighbours: how many nearest wordings vote.
        exact_up_to: the greatest number of wordings that is searched exactly.
    """

    def __init__(self, dimension: int, neighbours: int = 64, exact_up_to: int = EXACT_UP_TO) -> None:
        self.dimension, self.neighbours, self.exact_up_to = dimension, neighbours, exact_up_to
        self.kind = "exact"
        self._index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
        self._codes: dict[str, int] = {}
        # By id, which is never used twice: the memory's code and the number of the fact.
        self._owner, self._fact = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, memory: str, keys: Float[Tensor, "wordings embedding"], facts: Sequence[int]) -> None:
        """Adds the wordings of `memory`, each with the number of its fact."""
        if not len(keys):
            return
        code = self._codes.setdefault(memory, len(self._codes))
        ids = np.arange(len(self._owner), len(self._owner) + len(keys))
        self._index.add_with_ids(_rows(keys), ids)
        self._owner = np.concatenate([self._owner, np.full(len(keys), code)])
        self._fact = np.concatenate([self._fact, np.asarray(facts, dtype=np.int64)])

    def remove(self, memory: str) -> None:
        """Forgets all wordings of `memory`."""
        gone = np.flatnonzero(self._owner == self._codes.pop(memory, -1))
        self._index.remove_ids(faiss.IDSelectorBatch(gone))
        self._owner[gone] = -2

    def _search(self, queries: Float[Tensor, "queries embedding"]) -> tuple[np.ndarray, np.ndarray]:
        """(similarities, ids) of the nearest wordings, best first; where there are fewer, the id is -1."""
        if self.kind == "exact" and len(self) > self.exact_up_to:
            self._divide()
        return self._index.search(_rows(queries), min(self.neighbours, len(self)))

    def _divide(self) -> None:
        """Moves all vectors from the exact index into one of lists."""
        flat, ids = self._index.index, faiss.vector_to_array(self._index.id_map)
        keys = flat.reconstruct_n(0, flat.ntotal)
        lists = int(2 * math.sqrt(len(keys)))
        divided = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(self.dimension), self.dimension, lists, faiss.METRIC_INNER_PRODUCT
        )
        divided.cp.max_points_per_centroid = 64
        divided.nprobe = _PROBES
        divided.train(keys)
        divided.add_with_ids(keys, ids)
        self._index, self.kind = divided, "ivf"

    def nearby(
        self, queries: Float[Tensor, "queries embedding"], memories: Sequence[str]
    ) -> tuple[Float[Tensor, "queries near"], Int[Tensor, "queries near"]]:
        """The similarities of each query's nearest wordings, best first, and the number of the memory of each.

        Wordings of a memory that is not in `memories`, and places without a wording, have similarity -1 and memory 0.
        """
        if len(self) == 0 or len(queries) == 0:
            return torch.full((len(queries), 1), -1.0), torch.zeros(len(queries), 1, dtype=torch.long)
        scores, ids = self._search(queries)
        # Two places more than there are codes: -1 (no wording) and -2 (a wording that left) count from the end.
        number = np.full(max(self._codes.values(), default=-1) + 3, -1, dtype=np.int64)
        for i, name in enumerate(memories):
            if name in self._codes:
                number[self._codes[name]] = i
        found = np.where(ids < 0, -1, number[self._owner[ids]])
        return torch.from_numpy(np.where(found < 0, -1.0, scores).astype(np.float32)), torch.from_numpy(found.clip(0))

    def votes(
        self, queries: Float[Tensor, "queries embedding"], memories: Sequence[str]
    ) -> Float[Tensor, "queries memories"]:
        """Each memory's best cosine similarity among the nearest wordings, 0 where none of its wordings is near."""
        scores, owner = self.nearby(queries, memories)
        return torch.zeros(len(queries), len(memories)).scatter_reduce(1, owner, scores, "amax")

    def nearest(self, queries: Float[Tensor, "queries embedding"], facts: int) -> list[list[tuple[str, int, float]]]:
        """The nearest facts of each query, best first, each once: (memory, number of the fact, cosine similarity)."""
        if len(self) == 0:
            return [[] for _ in queries]
        names = {code: name for name, code in self._codes.items()}
        found = []
        for scores, ids in zip(*self._search(queries), strict=True):
            best: dict[tuple[str, int], float] = {}
            for score, i in zip(scores, ids[ids >= 0], strict=False):
                best.setdefault((names[int(self._owner[i])], int(self._fact[i])), float(score))
            found.append([(*owner, score) for owner, score in list(best.items())[:facts]])
        return found


def _rows(vectors: Tensor) -> np.ndarray:
    return np.ascontiguousarray(vectors.detach().cpu().numpy(), dtype=np.float32)
