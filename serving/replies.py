"""Replies: what the engine tells of a job, in the shapes of OpenAI's API."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from transformers import PreTrainedTokenizerBase

from lorary.routing.policy import Route
from lorary.serving.job import Piece, Routed
from lorary.serving.sampling import Token
from lorary.serving.writer import CUT

_LEAST = -9999.0
"""What stands for a logprob of minus infinity, which JSON has not."""


def headers(route: Route) -> dict[str, str]:
    """The route, as headers of a reply. Names of memories are ASCII."""
    return {
        "x-lorary-memory": ",".join(route.memories) or "__base__",
        "x-lorary-source": route.source,
        "x-lorary-confidence": f"{route.confidence:.4f}",
    }


def route_json(route: Route) -> dict[str, Any]:
    """A route as plain values."""
    return {
        "memory": route.memories[0] if route.memories else None,
        "memories": dict(zip(route.memories, route.weights, strict=True)),
        "source": route.source,
        "confidence": route.confidence,
        "outcome": route.outcome,
    }


def route_field(routed: Routed, probability: float | None = None) -> dict[str, Any]:
    """The route, as the field `lorary` of a reply.

    Args:
        probability: how likely the answer was, a token on average; None before it is known.
    """
    field = {**route_json(routed.route), "passages": [asdict(passage) for passage in routed.passages]}
    return field if probability is None else field | {"probability": probability}


def usage(prompt: int, answer: int) -> dict[str, int]:
    """The tokens of a request."""
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


class Shape:
    """The replies to one request.

    Args:
        logprobs: whether each token's is told.
    """

    object, chunk, prefix = "", "", ""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: str, logprobs: bool) -> None:
        self.tokenizer, self.model, self.logprobs = tokenizer, model, logprobs
        self.id, self.created = f"{self.prefix}-{uuid.uuid4().hex}", int(time.time())

    def whole(self, choices: Sequence[Mapping[str, Any]], counts: dict[str, int], lorary: Any) -> dict[str, Any]:
        """A reply that is no stream."""
        return self._around(self.object, list(choices)) | {"usage": counts, "lorary": lorary}

    def part(self, choices: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
        """A chunk of a stream."""
        return self._around(self.chunk, list(choices)) | more

    def _around(self, kind: str, choices: list[Any]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "system_fingerprint": None,
        }

    def _text(self, token: int) -> str:
        """A token as text; one that has none, or is a part of a letter, by its name, else many would be one."""
        text = str(self.tokenizer.decode([token]))
        return text if text and CUT not in text else str(self.tokenizer.convert_ids_to_tokens(token) or f"<{token}>")


class ChatShape(Shape):
    """The replies of `/v1/chat/completions`."""

    object, chunk, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def choice(self, index: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        """A choice that is finished."""
        text = "".join(piece.text for piece in pieces)
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": self._logprobs([token for piece in pieces for token in piece.tokens]),
            "finish_reason": pieces[-1].finished,
        }

    def opening(self, index: int) -> dict[str, Any] | None:
        """What begins the stream of a choice."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def delta(self, index: int, piece: Piece, offset: int) -> dict[str, Any]:
        """A piece of a choice."""
        delta = {"content": piece.text} if piece.text or not piece.finished else {}
        logprobs = self._logprobs(piece.tokens) if piece.tokens else None
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": piece.finished}

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        content = [
            self._told(token.id, token.logprob) | {"top_logprobs": [self._told(*other) for other in token.top]}
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def _told(self, token: int, logprob: float) -> dict[str, Any]:
        whole = CUT not in str(self.tokenizer.decode([token]))
        text = self._text(token)
        return {"token": text, "logprob": max(logprob, _LEAST), "bytes": list(text.encode()) if whole else None}


class CompletionShape(Shape):
    """The replies of `/v1/completions`."""

    object, chunk, prefix = "text_completion", "text_completion", "cmpl"

    def choice(self, index: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        """A choice that is finished."""
        text = "".join(piece.text for piece in pieces)
        logprobs = self._logprobs(pieces, 0)
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": pieces[-1].finished}

    def opening(self, index: int) -> dict[str, Any] | None:
        """Nothing begins the stream of a choice."""
        return None

    def delta(self, index: int, piece: Piece, offset: int) -> dict[str, Any]:
        """A piece of a choice.

        Args:
            offset: letters of the choice before it.
        """
        logprobs = self._logprobs([piece], offset) if piece.tokens else None
        return {"index": index, "text": piece.text, "logprobs": logprobs, "finish_reason": piece.finished}

    def _logprobs(self, pieces: Sequence[Piece], offset: int) -> dict[str, Any] | None:
        """Of the tokens of pieces; where a token stands is told as the letters before its piece."""
        if not self.logprobs:
            return None
        tokens, offsets = [token for piece in pieces for token in piece.tokens], list[int]()
        for piece in pieces:
            offsets += [offset] * len(piece.tokens)
            offset += len(piece.text)
        return {
            "tokens": [self._text(token.id) for token in tokens],
            "token_logprobs": [max(token.logprob, _LEAST) for token in tokens],
            "top_logprobs": [{self._text(id_): max(value, _LEAST) for id_, value in token.top} for token in tokens],
            "text_offset": offsets,
        }
