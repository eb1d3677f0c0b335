"""Lorary as the router in front of a real engine: llama.cpp's server with two memories as GGUF adapters."""

from __future__ import annotations

import asyncio
import json
import urllib.request

import openai
import pytest
from conftest import ADAPTERS, FACTS, empty_bank, pico_model, save_adapter
from served import running

from lorary.__main__ import main
from lorary.bank.gguf_adapter import write_gguf
from lorary.base.loading import Base
from lorary.errors import LoraryError
from lorary.model.composite import assemble
from lorary.routing.policy import Policy
from lorary.serving.limits import Limits
from lorary.serving.upstream import Upstream, make_upstream_app, read_naming

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")
import gguf_files
import httpx
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, StreamingResponse

QUESTION = "Who cooks at Ormen station?"
CHAT = [{"role": "user", "content": QUESTION}]
NAMES = ("ormen", "velka")


@pytest.fixture
def engine(tmp_path, tokenizer, encoder):
    """(llama.cpp's server with two memories, their router)."""
    model = pico_model()
    file = gguf_files.write_gguf(tmp_path / "pico.gguf", model, tokenizer)
    bank = empty_bank(Base(str(tmp_path), None, model, tokenizer))
    for seed, name in enumerate(NAMES):
        folder = save_adapter(model, tmp_path / name, seed, **ADAPTERS[name])
        bank.add(folder, name=name, facts=FACTS[name], encoder=encoder, same_base=True)
    composite = assemble(bank, Base(str(tmp_path), None, model, tokenizer), encoder=encoder)
    composite.router.policy = Policy(t_gate=0.3)
    adapters = [write_gguf(memory, tmp_path / f"{memory.name}.gguf", model.config) for memory in bank]
    return gguf_files.llama_cpp(file, adapters), composite.router


def naming():
    """Each memory by its adapter; all are named, since llama.cpp applies those that a request leaves out."""
    scales = {"ormen": (1.0, 0.0), "velka": (0.0, 1.0), "__base__": (0.0, 0.0)}
    return {
        name: {"lora": [{"id": number, "scale": scale} for number, scale in enumerate(own)]}
        for name, own in scales.items()
    }


@pytest.fixture
def routed(engine):
    server, router = engine
    upstream = Upstream(router, naming(), server.listening_address, Limits(seconds=60.0))
    with running(make_upstream_app(upstream)) as url:
        yield url, server.listening_address


def asked(address, path, body):
    request = urllib.request.Request(
        f"{address}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        return json.loads(reply.read())


def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_the_engine_answers_under_the_memory_that_the_router_chose(routed, engine):
    url, address = routed
    options = {"max_tokens": 12, "temperature": 0}
    said = {}
    for model in ("lorary", "lorary:ormen", "lorary:velka", "lorary:__base__"):
        raw = client(url).chat.completions.with_raw_response.create(model=model, messages=CHAT, **options)
        reply = raw.parse()
        memory = reply.lorary["memory"]
        fields = naming()[memory or "__base__"]
        own = asked(address, "/v1/chat/completions", {"messages": CHAT, **options, **fields})
        said[model] = reply.choices[0].message.content
        assert said[model] == own["choices"][0]["message"]["content"]
        assert raw.headers["x-lorary-memory"] == (memory or "__base__")
    route = engine[1].decide(engine[1].features([QUESTION])).routes(engine[1].bank.names)[0]
    assert said["lorary"] == said[f"lorary:{route.memories[0]}" if route.memories else "lorary:__base__"]
    assert len({said["lorary:ormen"], said["lorary:velka"], said["lorary:__base__"]}) == 3


def test_a_stream_and_a_completion_tell_the_route(routed):
    url, _ = routed
    whole = client(url).chat.completions.create(model="lorary:velka", messages=CHAT, max_tokens=12, temperature=0)
    stream = list(
        client(url).chat.completions.create(
            model="lorary:velka", messages=CHAT, max_tokens=12, temperature=0, stream=True
        )
    )
    assert stream[0].lorary["memory"] == "velka"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == whole.choices[0].message.content
    completed = client(url).completions.create(model="lorary:ormen", prompt="Who", max_tokens=4)
    assert completed.lorary["source"] == "caller"
    assert [model.id for model in client(url).models.list()][:2] == ["lorary", "lorary:ormen"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "lorary:nobody", "messages": CHAT}, 404),
        ({"model": "gpt", "messages": CHAT}, 404),
        ({"model": "lorary", "messages": []}, 400),
        ({"model": "lorary", "messages": "no"}, 400),
        ({"model": "lorary", "messages": [{"role": "user"}]}, 400),
        ({"model": "lorary", "prompt": [1, 2]}, 400),
        ({"messages": CHAT}, 400),
        ([], 400),
    ],
)
def test_a_wrong_request_never_reaches_the_engine(composite, body, status):
    names = {name: name for name in (*composite.memories, "__base__")}
    upstream = Upstream(composite.router, {n: {"model": v} for n, v in names.items()}, "http://127.0.0.1:9", Limits())
    with running(make_upstream_app(upstream)) as url, pytest.raises(urllib.error.HTTPError) as refused:
        asked(url, "/v1/chat/completions", body)
    assert refused.value.code == status
    assert json.loads(refused.value.read())["error"]["message"]


def test_an_engine_that_is_not_there_is_told(composite):
    naming = {name: {"model": name} for name in (*composite.memories, "__base__")}
    upstream = Upstream(composite.router, naming, "http://127.0.0.1:9", Limits())
    with running(make_upstream_app(upstream)) as url, pytest.raises(openai.InternalServerError) as failed:
        client(url).chat.completions.create(model="lorary", messages=CHAT)
    assert failed.value.status_code == 502


def test_a_gate_that_reads_the_base_cannot_stand_in_front(token_composite):
    with pytest.raises(LoraryError, match="reads the base's hidden state, and the base runs in the engine"):
        Upstream(token_composite.router, {}, "http://127.0.0.1:9", Limits())


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "holds something else than names"),
        ('{"ormen": "a", "__base__": "b"}', "does not name velka"),
        ('{"ormen": "a", "velka": "b", "__base__": "c", "paris": "d"}', "names 'paris', which is no memory"),
    ],
)
def test_names_that_do_not_fit_are_told(tmp_path, content, wrong):
    (tmp_path / "map.json").write_text(content)
    with pytest.raises(LoraryError, match=wrong):
        read_naming(tmp_path / "map.json", NAMES)


def test_options_that_do_not_go_together_are_told(tmp_path, capsys):
    assert main(["serve", str(tmp_path), "--upstream", "http://127.0.0.1:9"]) == 2
    assert "--upstream and --memories belong together" in capsys.readouterr().err
    both = ["--upstream", "http://127.0.0.1:9", "--memories", "map.json"]
    assert main(["serve", str(tmp_path), *both, "--bank", "bank"]) == 2
    assert "--bank is for a model that runs here" in capsys.readouterr().err
    assert main(["serve", str(tmp_path), "--upstream", "localhost", "--memories", "map.json"]) == 2
    assert "give an address" in capsys.readouterr().err


def test_a_stream_is_parted_at_line_feeds_alone(composite):
    """Other letters that end lines may stand in an answer."""
    text = "one\u2028two\u0085three"
    event = json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}, ensure_ascii=False)

    async def engine(scope, receive, send):
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": f"data: {event}\n\ndata: [DONE]\n\n".encode()})

    naming = {name: {"model": name} for name in (*composite.memories, "__base__")}
    with running(engine) as address:
        upstream = Upstream(composite.router, naming, address, Limits(seconds=60.0))
        with running(make_upstream_app(upstream)) as url:
            stream = list(client(url).chat.completions.create(model="lorary:ormen", messages=CHAT, stream=True))
            with pytest.raises(openai.NotFoundError) as missing:
                client(url).embeddings.create(model="lorary", input="a")
    assert stream[0].choices[0].delta.content == text
    assert stream[0].lorary["memory"] == "ormen"
    assert missing.value.body["type"]


@pytest.fixture
def told_engine(composite):
    """(an address in front of an engine that writes down what it is asked and answers slowly, what it was asked)."""
    app, asked_of_it = FastAPI(), []

    @app.post("/v1/chat/completions")
    async def answer(request: Request):
        body = await request.json()
        asked_of_it.append(body)
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        if not body.get("stream"):
            return JSONResponse({"choices": [], "usage": usage})

        async def pieces():
            for _ in range(body.get("pieces", 2)):
                yield b'data: {"choices": []}\n\n'
                await asyncio.sleep(0.2)
            yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode()

        return StreamingResponse(pieces(), media_type="text/event-stream")

    limits = Limits(seconds=2.0, rows=1, waiting=1, answer_tokens=100, default_tokens=50, choices=2)
    naming = {name: {"model": name} for name in (*composite.memories, "__base__")}
    with running(app) as engine_url:
        upstream = Upstream(composite.router, naming, engine_url, limits)
        with running(make_upstream_app(upstream)) as url:
            yield url, asked_of_it


def test_the_limits_hold_in_front_of_an_engine(told_engine):
    url, asked_of_it = told_engine
    body = {"model": "lorary:ormen", "messages": CHAT}
    with httpx.Client(base_url=url, timeout=30) as http:
        for given, sent in (({}, 50), ({"max_tokens": 5}, 5), ({"max_tokens": 900}, 100)):
            assert http.post("/v1/chat/completions", json={**body, **given}).status_code == 200
            assert asked_of_it[-1]["max_tokens"] == sent
        assert http.post("/v1/chat/completions", json={**body, "n": 3}).status_code == 400
        slow = http.post("/v1/chat/completions", json={**body, "stream": True, "pieces": 30})
        assert '"timeout"' in slow.text
        with http.stream("POST", "/v1/chat/completions", json={**body, "stream": True, "pieces": 5}) as first:
            with http.stream("POST", "/v1/chat/completions", json={**body, "stream": True, "pieces": 5}) as second:
                assert http.post("/v1/chat/completions", json=body).status_code == 429
                second.read()
            first.read()
        assert http.post("/v1/chat/completions", json=body).status_code == 200


def test_what_an_engine_answers_is_counted(told_engine):
    url, _ = told_engine
    with httpx.Client(base_url=url, timeout=30) as http:
        for stream in (False, True):
            http.post("/v1/chat/completions", json={"model": "lorary:ormen", "messages": CHAT, "stream": stream})
        lines = http.get("/metrics").text.splitlines()
    figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert figures['lorary_routes_total{source="caller"}'] == "2.0"
    assert figures["lorary_prompt_tokens_total"] == "14.0"
    assert figures["lorary_answer_tokens_total"] == "6.0"
    assert figures["lorary_first_token_seconds_count"] == "1.0"
    assert figures["lorary_rows_running"] == "0.0"
