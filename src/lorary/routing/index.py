"""FactIndex: FAISS over fact embeddings → votes per memory. The fallback behind the gate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import faiss
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lorary.bank.facts import NO_FACT
from lorary.errors import LoraryError

EXACT_UP_TO = 20_000
PROBES = 32
_CODE_BITS = 32
"""An id holds its memory's code above these bits and the number of its fact within them."""
_WITHIN = (1 << _CODE_BITS) - 1


class FactIndex:
    """An inner-product index over one unit vector a trained wording; memories join and leave.

    What it answers depends on the memories that it holds now, never on those that it held before: a memory's code is
    used once, and an id tells its memory and its fact, so nothing is kept beside the vectors.

    Up to `exact_up_to` wordings it compares with every one (`kind` is "exact"); above, with those in the `probes` nearest
    of about 2·√n lists (`kind` is "ivf"; Sivic and Zisserman 2003). The lists are made when a query first needs them, and
    again when there are four times as many wordings, or a quarter; it is not HNSW, because FAISS cannot take vectors out
    of that.

    Args:
        dimension: of the embeddings.
        neighbours: how many nearest wordings vote.
        exact_up_to: the greatest number of wordings that is searched exactly.
        probes: how many lists are searched.
    """

    def __init__(
        self, dimension: int, neighbours: int = 64, exact_up_to: int = EXACT_UP_TO, probes: int = PROBES
    ) -> None:
        self.dimension, self.neighbours, self.exact_up_to, self.probes = dimension, neighbours, exact_up_to, probes
        self._vectors: Any = _exact(dimension)
        self._codes: dict[str, int] = {}  # ascending, because a memory that joins again gets a new code at the end
        self._next_code = 0

    def __len__(self) -> int:
        return int(self._vectors.ntotal)

    @staticmethod
    def of_stored(dimension: int, stored: Mapping[str, np.ndarray], memories: Sequence[str]) -> FactIndex:
        """The index that `stored` told. Raises LoraryError where that is none: faiss reads where it is told, without a look."""
        _check_stored(dimension, stored, len(memories))
        index = FactIndex(dimension)
        if len(stored["centroids"]):
            index._vectors = _ivf(dimension, stored["centroids"], index.probes)
            vectors, ids, lists = (np.ascontiguousarray(stored[name]) for name in ("vectors", "ids", "lists"))
            index._vectors.add_core(len(ids), *map(faiss.swig_ptr, (vectors, ids, lists)))
        else:
            index._vectors.add_with_ids(stored["vectors"], np.ascontiguousarray(stored["ids"]))
        index._codes = {memory: code for code, memory in enumerate(memories)}
        index._next_code = len(memories)
        return index

    def stored(self) -> tuple[dict[str, np.ndarray], list[str]]:
        """(what `of_stored` goes on from, the memories in order).

        The centres of the lists are told as the means of what stands there now: of what was there before nothing is left.
        """
        keys, ids = _contents(self._vectors)
        codes = np.fromiter(self._codes.values(), dtype=np.int64, count=len(self._codes))
        renumbered = (np.searchsorted(codes, ids >> _CODE_BITS) << _CODE_BITS) + (ids & _WITHIN)
        count = _lists(self._vectors) if len(self) else 0
        lists = _list_of_each(self._vectors) if count else np.zeros(0, dtype=np.int64)
        centroids = np.zeros((count, self.dimension), dtype=np.float32)
        np.add.at(centroids, lists, keys[: len(lists)])
        centroids /= np.bincount(lists, minlength=count).clip(min=1)[:, None]
        told = {"vectors": keys, "ids": renumbered, "lists": lists, "centroids": centroids.astype(np.float32)}
        return told, list(self._codes)

    @property
    def kind(self) -> str:
        """How it searches: "exact" or "ivf"."""
        return "ivf" if _lists(self._vectors) else "exact"

    def add(self, memory: str, keys: Float[Tensor, "wordings embedding"], facts: Sequence[int]) -> None:
        """Adds the wordings of `memory`, each with the number of its fact or `NO_FACT`, in place of those that it had.

        A key of zeros, of a wording that the encoder cannot read, is near nothing and left out.

        Raises:
            LoraryError: keys of another dimension, or a number of facts that is not that of the keys.
        """
        if len(facts) != len(keys) or (len(keys) and keys.shape[1] != self.dimension):
            raise LoraryError(
                f"memory {memory!r} has keys of shape {list(keys.shape)} and {len(facts)} numbers of facts; the index takes "
                f"a number for each key of dimension {self.dimension}; embed its facts again with the bank's encoder"
            )
        self.remove(memory)
        readable = keys.any(-1).cpu().numpy()
        if readable.any():
            code = self._codes[memory] = self._next_code
            self._next_code += 1
            ids = (code << _CODE_BITS) + (np.asarray(facts, dtype=np.int64) & _WITHIN)
            self._vectors.add_with_ids(_rows(keys)[readable], ids[readable])

    def remove(self, memory: str) -> None:
        """Forgets all wordings of `memory`, if it has any."""
        code = self._codes.pop(memory, None)
        if code is not None:
            self._vectors.remove_ids(faiss.IDSelectorRange(code << _CODE_BITS, (code + 1) << _CODE_BITS))

    def _search(self, queries: Float[Tensor, "queries embedding"]) -> tuple[np.ndarray, np.ndarray]:
        """(similarities, ids) of the nearest wordings, best first; where there is none, the id is -1.

        A query of zeros, a text that the encoder cannot read, is near none.
        """
        vectors = self._vectors
        wanted = int(2 * math.sqrt(vectors.ntotal)) if vectors.ntotal > self.exact_up_to else 0
        lists = _lists(vectors)
        if bool(wanted) != bool(lists) or not wanted <= 2 * lists <= 4 * wanted:
            keys, ids = _contents(vectors)
            vectors = _divided(keys, wanted, self.probes) if wanted else _exact(self.dimension)
            vectors.add_with_ids(keys, ids)
            self._vectors = vectors  # in one step, because other threads may search
        scores, ids = vectors.search(_rows(queries), min(self.neighbours, vectors.ntotal))
        return scores, np.where(queries.any(-1).cpu().numpy()[:, None], ids, -1)

    def nearby(
        self, queries: Float[Tensor, "queries embedding"], memories: Sequence[str]
    ) -> tuple[Float[Tensor, "queries near"], Int[Tensor, "queries near"]]:
        """The similarities of each query's nearest wordings, best first, and the number of the memory of each.

        Wordings of a memory that is not in `memories`, and places without a wording, have similarity -1 and memory 0.
        """
        if len(self) == 0 or len(queries) == 0:
            return torch.full((len(queries), 1), -1.0), torch.zeros(len(queries), 1, dtype=torch.long)
        scores, ids = self._search(queries)
        codes = np.fromiter(self._codes.values(), dtype=np.int64, count=len(self._codes))
        if list(self._codes) == list(memories):
            owners = np.arange(len(memories))
        else:
            places = {name: place for place, name in enumerate(memories)}
            owners = np.fromiter((places.get(name, -1) for name in self._codes), dtype=np.int64)
        numbers = np.where(ids < 0, -1, owners[np.searchsorted(codes, ids.clip(0) >> _CODE_BITS)])
        near = np.where(numbers < 0, -1.0, scores).astype(np.float32)
        return torch.from_numpy(near), torch.from_numpy(numbers.clip(0))

    def votes(
        self, queries: Float[Tensor, "queries embedding"], memories: Sequence[str]
    ) -> Float[Tensor, "queries memories"]:
        """Each memory's best cosine similarity among the nearest wordings, 0 where none of its wordings is near."""
        if not memories:
            return torch.zeros(len(queries), 0)
        scores, owner = self.nearby(queries, memories)
        return torch.zeros(len(queries), len(memories)).scatter_reduce(1, owner, scores, "amax")

    def nearest(self, queries: Float[Tensor, "queries embedding"], facts: int) -> list[list[tuple[str, int, float]]]:
        """The nearest facts of each query, best first, each once: (memory, number of the fact, cosine similarity)."""
        nearest = []
        for neighbours in self.neighbours_of(queries):
            best: dict[tuple[str, int], float] = {}
            for memory, fact, score in neighbours:
                if fact != NO_FACT:
                    best.setdefault((memory, fact), score)
            nearest.append([(memory, fact, score) for (memory, fact), score in itertools.islice(best.items(), facts)])
        return nearest

    def neighbours_of(self, queries: Float[Tensor, "queries embedding"]) -> list[list[tuple[str, int, float]]]:
        """The nearest wordings of each query, best first: (memory, number of the fact or `NO_FACT`, cosine similarity)."""
        if len(self) == 0 or len(queries) == 0:
            return [[] for _ in queries]
        names = {code: name for name, code in self._codes.items()}
        return [
            [
                (names[i >> _CODE_BITS], NO_FACT if i & _WITHIN == _WITHIN else i & _WITHIN, score)
                for score, i in zip(scores[ids >= 0].tolist(), ids[ids >= 0].tolist(), strict=True)
            ]
            for scores, ids in zip(*self._search(queries), strict=True)
        ]


def _exact(dimension: int) -> Any:
    """An empty index that compares with every vector."""
    return faiss.IndexIDMap(faiss.IndexFlatIP(dimension))


def _divided(keys: np.ndarray, lists: int, probes: int) -> Any:
    """An empty index that compares with the vectors in the nearest lists, which it made for `keys`."""
    dimension = keys.shape[1]
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = 64
    index.nprobe = probes
    index.train(keys)
    return index


def _ivf(dimension: int, centroids: np.ndarray, probes: int) -> Any:
    """An empty index with lists of these centres."""
    quantizer = faiss.IndexFlatIP(dimension)
    quantizer.add(np.ascontiguousarray(centroids))
    index = faiss.IndexIVFFlat(quantizer, dimension, len(centroids), faiss.METRIC_INNER_PRODUCT)
    index.nprobe, index.is_trained = probes, True
    return index


def _list_of_each(index: Any) -> np.ndarray:
    """The number of the list of each vector, by id."""
    sizes = [index.invlists.list_size(n) for n in range(index.nlist)]
    filled = [(n, size) for n, size in enumerate(sizes) if size]
    ids = np.concatenate([faiss.rev_swig_ptr(index.invlists.get_ids(n), size).copy() for n, size in filled])
    return np.repeat(np.arange(index.nlist), sizes)[ids.argsort(kind="stable")]


def _lists(index: Any) -> int:
    """How many lists an index has, 0 for an exact one."""
    return int(getattr(index, "nlist", 0))


def _contents(index: Any) -> tuple[np.ndarray, np.ndarray]:
    """(vectors, ids) of an index, by id: in the order in which the memories joined."""
    if not index.ntotal:
        return np.zeros((0, index.d), dtype=np.float32), np.zeros(0, dtype=np.int64)
    if not _lists(index):
        return index.index.reconstruct_n(0, index.ntotal), faiss.vector_to_array(index.id_map)
    lists = [(n, index.invlists.list_size(n)) for n in range(index.nlist) if index.invlists.list_size(n)]
    ids = np.concatenate([faiss.rev_swig_ptr(index.invlists.get_ids(n), size).copy() for n, size in lists])
    codes = [faiss.rev_swig_ptr(index.invlists.get_codes(n), size * index.code_size).copy() for n, size in lists]
    order = ids.argsort(kind="stable")
    return np.concatenate(codes).view(np.float32).reshape(len(ids), index.d)[order], ids[order]


def _rows(vectors: Tensor) -> np.ndarray:
    return np.ascontiguousarray(vectors.detach().cpu().numpy(), dtype=np.float32)


def _check_stored(dimension: int, stored: Mapping[str, np.ndarray], memories: int) -> None:
    vectors, ids, lists, centroids = (stored[name] for name in ("vectors", "ids", "lists", "centroids"))
    kinds = [array.dtype.str[1:] for array in (vectors, ids, lists, centroids)] == ["f4", "i8", "i8", "f4"]
    wide = vectors.shape == (len(ids), dimension) and (not len(centroids) or centroids.shape[1:] == (dimension,))
    listed = len(lists) == (len(ids) if len(centroids) else 0) and ids.ndim == lists.ndim == 1
    if not (kinds and wide and listed and _within(ids >> _CODE_BITS, memories) and _within(lists, len(centroids))):
        raise LoraryError("what is kept of an index does not fit together; remove it, and it is made anew")


def _within(numbers: np.ndarray, count: int) -> bool:
    return not len(numbers) or bool(numbers.min() >= 0 and numbers.max() < count)
