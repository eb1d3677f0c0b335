"""The second turn of a chat, read anew or from what was kept: `python -m lorary.research.serve_chat COMPOSITE BASE`."""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from transformers import logging as transformers_logging

from lorary.model.composite import load_composite
from lorary.serving.engine import Engine
from lorary.serving.errors import RequestError
from lorary.serving.job import Event, Job, Piece
from lorary.serving.limits import Limits

_SENTENCE = "Tell me about the harbour, its boats, the people who work there and what they do in the winter. "
_NEXT = "And who repairs the engines of the boats?"
CHATS = 5


def measure(folder: str, base: str, sentences: int = 12, answers: tuple[int, int] = (24, 8)) -> dict[str, Any]:
    """For each way to go on, processor seconds to the first token of the second turn as [median, least, most], with nothing kept
    and with prefixes kept, the tokens of both prompts, and whether all answers are equal.

    Args:
        sentences: of the first question.
        answers: tokens of the two answers.
    """
    model = load_composite(folder, base=base, dtype="float32")
    names, told = model.memories, dict[str, Any]()
    said: dict[str, list[list[str]]] = {"same": [], "other": []}
    for mebibytes in (0.0, 256.0):
        engine = Engine(model, Limits(prefix_mib=mebibytes))
        engine.start()
        for kind in said:
            seconds, texts = list[float](), list[str]()
            for number in range(CHATS):
                first, second = names[number % len(names)], names[(number + (kind == "other")) % len(names)]
                chat = [{"role": "user", "content": f"{number} {kind}: {_SENTENCE * sentences}"}]
                _, text, read = _turn(engine, chat, first, answers[0])
                chat += [{"role": "assistant", "content": text}, {"role": "user", "content": _NEXT}]
                taken, text, read_next = _turn(engine, chat, second, answers[1])
                seconds.append(taken)
                texts.append(text)
            said[kind].append(texts)
            cell = told.setdefault(kind, {"tokens": [read, read_next]})
            cell["kept" if mebibytes else "anew"] = [round(f(seconds), 3) for f in (median, min, max)]
        engine.stop()
    return told | {"equal": all(anew == kept for anew, kept in said.values())}


def _turn(engine: Engine, chat: Sequence[dict[str, str]], memory: str, longest: int) -> tuple[float, str, int]:
    """(processor seconds of this process to the first token, the answer, the tokens of the prompt)."""
    events = queue.SimpleQueue[Event]()
    job = Job(chat=list(chat), memory=memory, tell=events.put, longest=longest, ignore_eos=True)
    begun, first, texts = time.process_time(), 0.0, list[str]()
    engine.submit(job)
    while True:
        event = events.get()
        if isinstance(event, RequestError):
            raise event
        if isinstance(event, Piece):
            first = first or time.process_time() - begun
            texts.append(event.text)
            if event.finished:
                return first, "".join(texts), len(job.ids)


if __name__ == "__main__":
    transformers_logging.set_verbosity_error()
    print(json.dumps(measure(sys.argv[1], sys.argv[2]), indent=1))
