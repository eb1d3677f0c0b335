"""Remembered vectors: a text that was encoded lately is not encoded again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.routing.encoder import Encoder

LATELY = 256
"""Texts whose vectors are kept: 1.5 KiB each."""


class RememberedVectors:
    """The vectors of the texts that were encoded last, for one encoder at a time. Threads may share it.

    Args:
        most: texts to keep; 0 keeps none, so that each is encoded each time.
    """

    def __init__(self, most: int = LATELY) -> None:
        self.most = most
        self._vectors: OrderedDict[str, Tensor] = OrderedDict()
        self._encoder: Encoder | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or another process, starts with nothing remembered."""
        return RememberedVectors, (self.most,)

    def encode(self, encoder: Encoder, texts: Sequence[str]) -> Float[Tensor, "texts embedding"]:
        """The vectors of distinct texts; those that are not remembered are encoded together.

        A vector is the one that the text got first. In other company the encoder may give one that differs in the last
        bits (`mixing.EQUAL`).
        """
        known = self._remembered(encoder, texts)
        new = [text for text in texts if text not in known]
        if len(new) == len(texts):
            vectors = encoder.encode(new)
            self._keep(encoder, dict(zip(new, vectors, strict=True)))
            return vectors
        if new:
            known |= dict(zip(new, encoder.encode(new), strict=True))
        self._keep(encoder, known)
        return torch.stack([known[text] for text in texts])

    def _remembered(self, encoder: Encoder, texts: Sequence[str]) -> dict[str, Tensor]:
        with self._lock:
            if self._encoder is not encoder:
                self._vectors.clear()
                self._encoder = encoder
            return {text: vector for text in texts if (vector := self._vectors.get(text)) is not None}

    def _keep(self, encoder: Encoder, vectors: dict[str, Tensor]) -> None:
        with self._lock:
            if self._encoder is not encoder:
                return
            for text, vector in list(vectors.items())[-self.most :] if self.most else ():
                with torch.inference_mode(False):  # what is kept may be asked for outside a caller's inference mode
                    self._vectors[text] = vector.clone()
                self._vectors.move_to_end(text)
            while len(self._vectors) > self.most:
                self._vectors.popitem(last=False)
