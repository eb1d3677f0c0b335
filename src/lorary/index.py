"""FactIndex: FAISS over fact embeddings → votes per memory. The fallback behind the gate."""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class FactIndex:
    """An exact inner-product index over one unit vector a trained wording; memories join and leave without a rebuild.

    Args:
        dimension: of the embeddings.
        neighbours: how many nearest wordings vote.
    """

    def __init__(self, dimension: int, neighbours: int = 64) -> None:
        self.neighbours = neighbours
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
        self._owner: dict[int, tuple[str, int]] = {}
        self._next = 0

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, memory: str, keys: Float[Tensor, "wordings embedding"], facts: Sequence[int]) -> None:
        """Adds the wordings of `memory`, each with the number of its fact."""
        if len(keys):
            ids = np.arange(self._next, self._next + len(keys))
            self._index.add_with_ids(np.ascontiguousarray(keys.numpy(), dtype=np.float32), ids)
            self._owner.update({int(i): (memory, fact) for i, fact in zip(ids, facts, strict=True)})
            self._next += len(keys)

    def remove(self, memory: str) -> None:
        """Forgets all wordings of `memory`."""
        gone = [i for i, (name, _) in self._owner.items() if name == memory]
        self._index.remove_ids(faiss.IDSelectorBatch(np.array(gone, dtype=np.int64)))
        for i in gone:
            del self._owner[i]

    def votes(
        self, queries: Float[Tensor, "queries embedding"], memories: Sequence[str], *, leave_out: Sequence[str] = ()
    ) -> Float[Tensor, "queries memories"]:
        """Each memory's best cosine similarity among the nearest wordings, 0 where none of its wordings is near.

        Args:
            leave_out: with training queries, drops each query's own wording (similarity 1), which would tell the
                answer; one entry a query.
        """
        votes = torch.zeros(len(queries), len(memories))
        column = {name: i for i, name in enumerate(memories)}
        if len(self) == 0 or len(queries) == 0:
            return votes
        wanted = min(self.neighbours, len(self))
        scores, ids = self._index.search(np.ascontiguousarray(queries.numpy(), dtype=np.float32), wanted)
        for row in range(len(queries)):
            for score, i in zip(scores[row], ids[row], strict=True):
                owner = self._owner[int(i)][0]
                own = bool(leave_out) and leave_out[row] == owner and score > 1 - 1e-4
                if owner in column and not own:
                    votes[row, column[owner]] = max(votes[row, column[owner]].item(), float(score))
        return votes

    def nearest(self, queries: Float[Tensor, "queries embedding"], facts: int) -> list[list[tuple[str, int, float]]]:
        """The nearest facts of each query, best first, each once: (memory, number of the fact, cosine similarity)."""
        wanted = min(self.neighbours, len(self))
        if wanted == 0:
            return [[] for _ in queries]
        scores, ids = self._index.search(np.ascontiguousarray(queries.numpy(), dtype=np.float32), wanted)
        found = []
        for row in range(len(queries)):
            best: dict[tuple[str, int], float] = {}
            for score, i in zip(scores[row], ids[row], strict=True):
                best.setdefault(self._owner[int(i)], float(score))
            found.append([(*owner, score) for owner, score in list(best.items())[:facts]])
        return found
