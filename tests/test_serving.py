"""The server, asked by OpenAI's own client over HTTP: a pico composite behind a real uvicorn."""

from __future__ import annotations

import math

import openai
import pytest
from served import served

from lorary.base.prompts import chat_text, prompt_batch

QUESTION = "Who cooks at Ormen station?"
CHAT = [{"role": "user", "content": QUESTION}]


def generated(model, question, memory, longest=12, **options):
    """(the text of transformers' own `generate`, its tokens)."""
    inputs = prompt_batch(model.tokenizer, [chat_text(model.tokenizer, [{"role": "user", "content": question}])])
    ways = {"routing_text": [question]} if memory is None else {"adapter_names": [memory]}
    output = model.generate(**inputs, max_new_tokens=longest, do_sample=False, **ways)
    ids = output[0, inputs.input_ids.shape[1] :]
    return str(model.tokenizer.decode(ids, skip_special_tokens=True)), ids.tolist()


@pytest.fixture
def server(model):
    with served(model) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "memory"), [("lorary", None), ("lorary:velka", "velka"), ("lorary:__base__", "__base__")]
)
def test_the_client_gets_what_generate_gives(model, name, memory):
    text, ids = generated(model, QUESTION, memory)
    route = model.last_routes[0]
    with served(model) as server, server.client() as client:
        raw = client.chat.completions.with_raw_response.create(model=name, messages=CHAT, max_tokens=12)
        reply = raw.parse()
        assert reply.choices[0].message.content == text
        assert reply.usage.completion_tokens == len(ids)
        assert reply.model == name
        assert reply.lorary["memory"] == (route.memories[0] if route.memories else None)
        assert reply.lorary["source"] == route.source == raw.headers["x-lorary-source"]
        assert raw.headers["x-lorary-memory"] == (",".join(route.memories) or "__base__")
        assert 0 < reply.lorary["probability"] <= 1
        stream = list(
            client.chat.completions.create(
                model=name, messages=CHAT, max_tokens=12, stream=True, stream_options={"include_usage": True}
            )
        )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == text
    assert [chunk.choices[0].finish_reason for chunk in stream if chunk.choices][-1] == reply.choices[0].finish_reason
    assert stream[-1].usage == reply.usage
    assert stream[0].lorary["source"] == route.source
    assert stream[-2].lorary["probability"] == pytest.approx(reply.lorary["probability"], rel=1e-4)


def test_completions_take_texts_and_tokens(model, server):
    prompt = chat_text(model.tokenizer, CHAT)
    with server.client() as client:
        whole = client.completions.create(model="lorary:ormen", prompt=prompt, max_tokens=8, logprobs=2)
        [ids] = prompt_batch(model.tokenizer, [prompt]).input_ids.tolist()
        both = client.completions.create(model="lorary:ormen", prompt=[ids, ids], max_tokens=8, n=2)
        stream = list(
            client.completions.create(model="lorary:ormen", prompt=prompt, max_tokens=8, stream=True, logprobs=0)
        )
    assert whole.choices[0].text == generated(model, QUESTION, "ormen", 8)[0]
    assert [choice.text for choice in both.choices] == [whole.choices[0].text] * 4
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert both.usage.prompt_tokens == 2 * len(ids)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text
    told = whole.choices[0].logprobs
    for top, chosen in zip(told.top_logprobs, told.token_logprobs, strict=True):
        assert len(top) == 2
        assert max(top.values()) == pytest.approx(chosen)
    streamed = [chunk.choices[0].logprobs for chunk in stream if chunk.choices[0].logprobs]
    assert [offset for one in streamed for offset in one.text_offset] == told.text_offset


def test_logprobs_of_a_chat_are_the_models(model, server):
    with server.client() as client:
        reply = client.chat.completions.create(
            model="lorary:lamps", messages=CHAT, max_tokens=6, logprobs=True, top_logprobs=3
        )
    content = reply.choices[0].logprobs.content
    assert content
    assert all(len(token.top_logprobs) == 3 and token.top_logprobs[0].logprob == token.logprob for token in content)
    mean = sum(token.logprob for token in content) / len(content)
    if reply.choices[0].finish_reason == "length":
        assert reply.lorary["probability"] == pytest.approx(math.exp(mean), rel=1e-4)


def test_draws_follow_their_seed(server):
    with server.client() as client:

        def drawn(seed, n=3, **options):
            reply = client.chat.completions.create(
                model="lorary", messages=CHAT, temperature=1.5, top_p=0.95, seed=seed, n=n, max_tokens=10, **options
            )
            return [choice.message.content for choice in reply.choices]

        first = drawn(7)
        assert first == drawn(7)
        assert len(set(first)) > 1
        assert first != drawn(8)


def test_a_stop_ends_an_answer_and_is_not_in_it(model, server):
    text, _ = generated(model, QUESTION, "velka", 24)
    stop = text[5:8]
    cut = text[: text.index(stop)]
    with server.client() as client:
        options = {"model": "lorary:velka", "messages": CHAT, "max_tokens": 24, "stop": [stop, "never written"]}
        reply = client.chat.completions.create(**options)
        stream = list(client.chat.completions.create(**options, stream=True))
    assert reply.choices[0].message.content == cut
    assert reply.choices[0].finish_reason == "stop"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == cut


def test_models_are_listed(model, server):
    with server.client() as client:
        names = [own.id for own in client.models.list()]
        assert names == ["lorary", *(f"lorary:{name}" for name in model.memories), "lorary:__base__"]
        assert client.models.retrieve("lorary:velka").id == "lorary:velka"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("lorary:nobody")


def test_what_cannot_be_had_is_told_in_openais_shape(server):
    with server.client() as client:

        def error(kind, **options):
            with pytest.raises(kind) as raised:
                client.chat.completions.create(**{"model": "lorary", "messages": CHAT, **options})
            return raised.value.body

        assert error(openai.NotFoundError, model="lorary:nobody")["code"] == "model_not_found"
        assert error(openai.NotFoundError, model="gpt-4o")["param"] == "model"
        assert error(openai.BadRequestError, messages=[])["param"] == "messages"
        assert error(openai.BadRequestError, temperature=9)["param"] == "temperature"
        assert error(openai.BadRequestError, n=1000)["param"] == "n"
        assert (
            error(openai.BadRequestError, tools=[{"type": "function", "function": {"name": "f"}}])["param"] == "tools"
        )
        long = [{"role": "user", "content": "station " * 2000}]
        assert error(openai.BadRequestError, messages=long)["code"] == "context_length_exceeded"
        huge = [{"role": "user", "content": "x" * 1_100_000}]
        assert error(openai.APIStatusError, messages=huge)["code"] == "request_too_large"
