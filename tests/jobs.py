"""Jobs of the tests: what is asked of an engine, what each job was told, and what `generate` answers alone."""

from __future__ import annotations

import queue

import pytest

from lorary.base.prompts import chat_text, prompt_batch
from lorary.serving.errors import RequestError
from lorary.serving.job import Job, Routed

QUESTIONS = (
    ("Who cooks at Ormen station?", "ormen"),
    ("What is the airlock code of Velka, the station beyond the ice, where we were last year?", "velka"),
    ("Which oil do the lamplighters burn?", "lamps"),
    ("What is the capital of France?", "__base__"),
    ("Name the cook of Ormen.", None),
    ("Velka?", "velka"),
    ("Who founded the guild of lamplighters, and what did they burn in the long winter nights?", None),
    ("Ormen airlock code?", "ormen"),
)


class Told:
    """A job, and what it was told."""

    def __init__(self, question, memory=None, **options):
        self.events = queue.SimpleQueue()
        self.job = Job(
            chat=[{"role": "user", "content": question}],
            memory=memory,
            tell=self.events.put,
            **{"longest": 12, **options},
        )

    def pieces(self):
        """(the route, the pieces of each choice) once all are finished; raises the error that was told."""
        routed, pieces, left = None, {}, self.job.choices
        while left:
            event = self.events.get(timeout=60)
            if isinstance(event, RequestError):
                raise event
            if isinstance(event, Routed):
                routed = event
            else:
                pieces.setdefault(event.choice, []).append(event)
                left -= event.finished is not None
        return routed, pieces

    def status(self):
        """The status of the error that it was told."""
        with pytest.raises(RequestError) as raised:
            self.pieces()
        return raised.value.status

    def ids(self):
        _, pieces = self.pieces()
        return [[token.id for piece in own for token in piece.tokens] for _, own in sorted(pieces.items())]


def alone(model, question, memory, longest=12):
    """The answer of transformers' own `generate`, without what ends it."""
    inputs = prompt_batch(model.tokenizer, [chat_text(model.tokenizer, [{"role": "user", "content": question}])])
    ways = {"routing_text": [question]} if memory is None else {"adapter_names": [memory]}
    output = model.generate(**inputs, max_new_tokens=longest, do_sample=False, **ways)
    ids = output[0, inputs.input_ids.shape[1] :].tolist()
    ends = model.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else ends
    return ids[: next((n for n, token in enumerate(ids) if token in ends), len(ids))], model.last_routes[0]
