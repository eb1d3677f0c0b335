"""Who may ask a server, and that nothing which is sent to it hurts it or another: keys, hosts, bodies, clients that leave."""

from __future__ import annotations

import gc
import json
import random
import socket
import threading
import time

import pytest
from served import KEY, served
from test_serving import CHAT, generated

from lorary.errors import LoraryError
from lorary.serving.access import check_exposure

PATH = "/v1/chat/completions"
IN_PROGRESS = "lorary_requests_in_progress "
BODY = {"model": "lorary:ormen", "messages": CHAT, "max_tokens": 8}


def until(holds):
    """Waits until something holds, five seconds at most."""
    for _ in range(500):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it does not come to hold")


def test_a_key_is_asked_for_where_one_is_set(model):
    with served(model, key=KEY) as server, server.http() as client:
        for headers in ({"authorization": ""}, {"authorization": "Bearer wrong-key-of-mine"}, {"authorization": KEY}):
            for method, path in (
                ("POST", "/v1/chat/completions"),
                ("GET", "/v1/models"),
                ("GET", "/metrics"),
                ("GET", "/x"),
            ):
                reply = client.request(method, path, json=BODY if method == "POST" else None, headers=headers)
                assert reply.status_code == 401
                assert reply.json()["error"]["code"] == "invalid_api_key"
        assert client.get("/health", headers={"authorization": ""}).json() == {"status": "ok"}
        assert client.post(PATH, json=BODY).status_code == 200


def test_a_page_of_another_host_is_refused(model):
    with served(model) as server, server.http() as client:
        assert client.get("/v1/models", headers={"host": "evil.example:80"}).status_code == 403
        assert client.get("/v1/models", headers={"host": "localhost:1"}).status_code == 200
        plain = client.post("/v1/chat/completions", content=json.dumps(BODY), headers={"content-type": "text/plain"})
        assert plain.status_code == 415


@pytest.mark.parametrize(
    ("host", "key", "fine"),
    [
        ("127.0.0.1", None, True),
        ("::1", None, True),
        ("localhost", None, True),
        ("0.0.0.0", None, False),
        ("::", None, False),
        ("0.0.0.0", KEY, True),
        ("127.0.0.1", "short", False),
    ],
)
def test_others_are_let_in_with_a_key_alone(host, key, fine):
    if fine:
        check_exposure(host, key)
        return
    with pytest.raises(LoraryError, match="key"):
        check_exposure(host, key)


def wrong_bodies(count, seed=0):
    """So many bodies that are no request: cut, of wrong types, with wrong values, with unknown memories."""
    drawn = random.Random(seed)
    values = [None, True, -1, 0, 3.5, 1e308, "", "x" * 50, [], [[]], {}, {"a": 1}, ["x", 1], "\ud800", 10**30, "NaN"]
    wrong = {
        "model": [None, 1, "", "gpt-4", "lorary:", "lorary:nobody", "lorary:../x", ["lorary"]],
        "messages": [
            None,
            [],
            "x",
            [1],
            [{}],
            [{"role": "user"}],
            [{"role": "x", "content": "y"}],
            [{"role": "user", "content": ""}],
        ],
        "temperature": [-1, 3, "hot", [], 1e400],
        "top_p": [0, -1, 2, "x"],
        "n": [0, -3, 10**9, "2", 1.5],
        "max_tokens": [0, -1, "x", 2.5, 10**40],
        "stop": [1, [1], {"a": 1}, ["a"] * 40],
        "seed": [1.5, "x", 10**30],
        "logit_bias": [{"x": 1}, {"-1": 1}, {"999999": 1}, {"1": 1000}, [1]],
        "stream": ["yes", 1, []],
        "stream_options": [1, "x", []],
        "top_logprobs": [-1, 100, "x"],
        "tools": [[1], "x", {"a": 1}],
        "response_format": [{"type": "json_object"}, 1],
    }
    for _ in range(count):
        kind = drawn.randrange(4)
        text = json.dumps(BODY)
        if kind == 0:
            yield text[: drawn.randrange(len(text))].encode()
        elif kind == 1:
            field = drawn.choice([*wrong])
            yield json.dumps({**BODY, field: drawn.choice(wrong[field])}).encode()
        elif kind == 2:
            yield json.dumps(drawn.choice(values)).encode()
        else:
            yield bytes(drawn.randrange(256) for _ in range(drawn.randrange(1, 60)))


def refused(client, count, seed=0):
    """The statuses of so many wrong requests, and what was told."""
    statuses, told = [], []
    for number, content in enumerate(wrong_bodies(count, seed)):
        path = ("/v1/chat/completions", "/v1/chat/completions", "/v1/chat/completions", "/v1/nothing")[number % 4]
        reply = client.post(path, content=content, headers={"content-type": "application/json"})
        statuses.append(reply.status_code)
        told.append(reply.text)
    return statuses, told


def test_what_is_no_request_is_refused_and_leaves_nothing_behind(model, caplog, capfd):
    """Neither in what is told nor in what other clients are answered."""
    secret = "the lamp of Velka was moved to the cellar"
    with served(model) as server, server.http() as client:
        ours = client.post(PATH, json={**BODY, "messages": [{"role": "user", "content": secret}]})
        statuses, told = refused(client, 400)
        assert {status // 100 for status in statuses} == {4}
        assert all(set(json.loads(text)["error"]) == {"message", "type", "param", "code"} for text in told)
        assert not [text for text in told if secret in text or "Traceback" in text or "serving/" in text]
        again = client.post(PATH, json={**BODY, "messages": [{"role": "user", "content": secret}]})
        assert again.json()["choices"] == ours.json()["choices"]
        until(lambda: server.engine.inbox.jobs == 0)
    assert "Traceback" not in capfd.readouterr().err + caplog.text


def test_wrong_requests_fill_no_memory(model):
    with served(model) as server, server.http() as client:
        refused(client, 500, seed=1)
        gc.collect()
        before = len(gc.get_objects())
        statuses, _ = refused(client, 1_500, seed=2)
        gc.collect()
        assert {status // 100 for status in statuses} == {4}
        assert len(gc.get_objects()) < before + 1_000


def test_a_client_that_leaves_frees_its_row(model):
    with served(model, rows=1) as server, server.http() as client:
        with client.stream("POST", PATH, json={**BODY, "max_tokens": 180, "stream": True}) as stream:
            next(stream.iter_lines())
        body = {**BODY, "max_tokens": 180, "n": 8}
        address = server.url.removeprefix("http://").split(":")
        with socket.create_connection((address[0], int(address[1]))) as raw:
            content = json.dumps(body).encode()
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            head += f"Content-Length: {len(content)}\r\n\r\n"
            raw.sendall(head.encode() + content)
            time.sleep(0.3)
        reply = client.post(PATH, json=BODY)
        assert reply.status_code == 200
        until(lambda: server.engine.inbox.jobs == 0)
        text = client.get("/metrics").text
    [written] = [line.split()[1] for line in text.splitlines() if line.startswith("lorary_answer_tokens_total ")]
    assert float(written) < 900, "what nobody waits for is not written: it would be 1,620 tokens"


def test_a_slow_reader_holds_nobody(model):
    """One client reads nothing of a stream that is longer than all buffers on the way: others are answered, its row is free
    once it is written, and all of it is there when it reads at last."""
    expected, _ = generated(model, CHAT[0]["content"], "ormen", 8)
    long = {**BODY, "max_tokens": 100, "n": 2, "stream": True, "logprobs": True, "top_logprobs": 20}
    with served(model, rows=2, buffer=4096) as server, server.http() as client:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.connect((host, int(port)))
            content = json.dumps(long).encode()
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
            raw.sendall(head.encode() + content)
            replies = [client.post(PATH, json=BODY).json() for _ in range(3)]
            until(lambda: server.engine.inbox.jobs == 0)
            [sending] = [line for line in client.get("/metrics").text.splitlines() if line.startswith(IN_PROGRESS)]
            assert float(sending.split()[1]) == 2, "its reply is not sent: the buffers do not hold it"
            received = b"".join(iter(lambda: raw.recv(65536), b""))
    assert [reply["choices"][0]["message"]["content"] for reply in replies] == [expected] * 3
    assert len(received) > 200_000
    assert b"data: [DONE]" in received


def test_the_queue_is_told_to_be_full(model):
    with served(model, rows=1, waiting=1) as server, server.http() as client:
        statuses = []

        def ask():
            statuses.append(client.post(PATH, json={**BODY, "max_tokens": 120}).status_code)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted({*statuses}) == [200, 429]


def test_a_request_that_takes_too_long_is_told_so(model):
    with served(model, rows=1, seconds=0.05) as server, server.http() as client:
        reply = client.post(PATH, json={**BODY, "max_tokens": 190})
        assert reply.status_code == 504
        assert reply.json()["error"]["code"] == "timeout"


def test_no_text_is_logged(model, caplog):
    caplog.set_level("DEBUG", logger="lorary.serving")
    with served(model) as server, server.http() as client:
        client.post(PATH, json=BODY)
        told = client.get("/metrics").text
    assert "POST /v1/chat/completions 200" in caplog.text
    for text in (caplog.text, told):
        assert "Ormen" not in text
        assert "ormen" not in text


@pytest.mark.parametrize("temperature", [1e-40, 1e-38, 1e-10])
def test_a_tiny_temperature_takes_the_likeliest_token(model, temperature):
    with served(model) as server, server.http() as client:
        plain = client.post(PATH, json={**BODY, "temperature": 0.0}).json()
        cold = client.post(PATH, json={**BODY, "temperature": temperature})
        assert cold.status_code == 200
        assert cold.json()["choices"] == plain["choices"]


def test_no_prompts_are_refused(model):
    with served(model) as server, server.http() as client:
        for prompt in ([], [[]]):
            reply = client.post("/v1/completions", json={"model": "lorary", "prompt": prompt})
            assert reply.status_code == 400
            assert reply.json()["error"]["param"]


def test_another_host_opens_no_path_without_the_key(model):
    with served(model, key=KEY) as server, server.http(headers={"host": "localhost:1/health?"}) as client:
        assert client.get("/memories").status_code in (400, 401, 403)
