"""Memories that join, change and leave while a server runs, and what is left on disk when it is killed or ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest
from conftest import save_adapter
from served import KEY, served

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.bank.facts import parse_fact
from lorary.model.composite import load_composite
from lorary.serving.keeping import Keeper

FACTS = [
    {"question": "Who mends the boat of Torv?", "answer": "Tilde", "questions": ["Name the mechanic of Torv's boat."]}
]
PATH = "/v1/chat/completions"


def asking(model, **options):
    return {
        "model": model,
        "messages": [{"role": "user", "content": "Who mends the boat of Torv?"}],
        "max_tokens": 8,
        **options,
    }


@pytest.fixture
def folder(composite, tmp_path):
    composite.save_pretrained(tmp_path / "composite")
    return tmp_path / "composite"


def answer(folder, name):
    """What a composite that is loaded from its folder answers by a memory."""
    model = load_composite(folder)
    return model.ask("Who mends the boat of Torv?", adapter_names=[name], max_new_tokens=8).text


def test_memories_join_change_and_leave_on_disk_too(base, folder, tmp_path):
    adapters = [str(save_adapter(base.model, tmp_path / f"a{n}", n, r=2, target_modules=["q_proj"])) for n in (7, 8)]
    with served(load_composite(folder), folder, key=KEY) as server, server.http() as client:

        def text(name):
            return client.post(PATH, json=asking(name)).json()["choices"][0]["message"]["content"].strip()

        made = client.post(
            "/memories", json={"name": "torv", "adapter": adapters[0], "facts": FACTS, "same_base": True}
        )
        assert made.status_code == 201, made.text
        assert made.json() == {"name": "torv", "facts": 1, "passages": 0}
        assert "lorary:torv" in {own["id"] for own in client.get("/v1/models").json()["data"]}
        first = text("lorary:torv")
        assert first == answer(folder, "torv"), "it was on disk before it was told"
        again = client.post("/memories", json={"name": "torv", "adapter": adapters[0]})
        assert again.status_code == 409

        changed = client.put("/memories/torv", json={"adapter": adapters[1], "facts": FACTS, "same_base": True})
        assert changed.status_code == 200, changed.text
        second = text("lorary:torv")
        assert second == answer(folder, "torv") != first
        more = {
            "facts": [*FACTS, {"question": "Where is Torv?", "answer": "North"}],
            "documents": [{"source": "torv.md", "text": "Torv lies north."}],
        }
        assert client.put("/memories/torv", json=more).json() == {"name": "torv", "facts": 2, "passages": 1}
        assert text("lorary:torv") == second, "facts and documents leave the adapter as it is"
        assert len(MemoryBank.load(folder)["torv"].facts) == 2

        assert client.delete("/memories/torv").json() == {"name": "torv", "deleted": True}
        assert client.post(PATH, json=asking("lorary:torv")).status_code == 404
        assert client.delete("/memories/torv").status_code == 404
        listed = [own["name"] for own in client.get("/memories").json()["memories"]]
    assert listed == MemoryBank.load(folder).names == ["ormen", "velka", "lamps"]


def test_what_cannot_be_a_memory_is_refused(folder, tmp_path):
    with served(load_composite(folder), folder, key=KEY) as server, server.http() as client:
        for body in (
            {"name": "../x", "facts": FACTS},
            {"adapter": "nowhere"},
            {"name": "torv", "adapter": str(tmp_path / "nowhere")},
            {"name": "torv", "facts": [{"question": "?"}]},
            {"name": "torv", "facts": FACTS},
            {"name": "torv", "documents": [{"source": "a"}]},
            {"name": "torv", "wrong": 1},
            [],
        ):
            reply = client.post("/memories", json=body)
            assert reply.status_code in (400, 409), reply.text
            assert reply.json()["error"]["message"]
        assert client.put("/memories/ormen", json={}).status_code == 400
    assert MemoryBank.load(folder).names == ["ormen", "velka", "lamps"]


def test_memories_change_with_the_key_alone(folder):
    with served(load_composite(folder), folder) as server, server.http() as client:
        assert client.post("/memories", json={"name": "torv", "facts": FACTS}).status_code == 403
        assert client.delete("/memories/ormen").status_code == 403
    assert "ormen" in MemoryBank.load(folder).names


def test_a_change_that_cannot_be_written_is_not_made(folder, base, tmp_path):
    """Another writer has changed the folder: the model stays what it was, the gate's keys in their order."""
    model = load_composite(folder)
    keys = model.gate.state_dict()["keys"].clone()
    adapter = str(save_adapter(base.model, tmp_path / "new", 7, r=2, target_modules=["q_proj"]))
    with MemoryBank.change(folder) as other:
        other.add(save_adapter(base.model, tmp_path / "other", 9, r=2, target_modules=["v_proj"]), same_base=True)
    with served(model, folder, key=KEY) as server, server.http() as client:
        before = client.post(PATH, json=asking("lorary:velka")).json()["choices"]
        for method, path, body in (
            ("DELETE", "/memories/ormen", None),
            ("POST", "/memories", {"name": "torv", "adapter": adapter, "facts": FACTS, "same_base": True}),
            ("PUT", "/memories/ormen", {"facts": FACTS}),
        ):
            assert client.request(method, path, json=body).status_code == 409
            assert [own["name"] for own in client.get("/memories").json()["memories"]] == ["ormen", "velka", "lamps"]
            assert client.post(PATH, json=asking("lorary:velka")).json()["choices"] == before
    assert model.gate.state_dict()["keys"].equal(keys)
    assert "other" in MemoryBank.load(folder).names


@pytest.fixture
def process_of(tmp_path):
    """Starts `lorary serve` in a process of its own: (the process, its address)."""
    started = []

    def start(folder, *options):
        log = (tmp_path / "log").open("wb")
        command = [sys.executable, "-m", "lorary", "serve", str(folder), "--port", "0", *options]
        environment = {**os.environ, "LORARY_API_KEY": KEY}
        started.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        while "lorary serves at " not in (text := (tmp_path / "log").read_text()):
            assert started[-1].poll() is None, text
            time.sleep(0.05)
        url = text.split("lorary serves at ")[1].split("/v1")[0]
        client = httpx.Client(base_url=url, headers={"authorization": f"Bearer {KEY}"}, timeout=60)
        for _ in range(200):
            try:
                if client.get("/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        return started[-1], client

    yield start
    for process in started:
        process.kill()
        process.wait(30)


def test_sigterm_ends_what_runs_and_takes_nothing_new(folder, process_of):
    process, client = process_of(folder)
    lines, begun = [], threading.Event()

    def read():
        with client.stream(
            "POST", PATH, json=asking("lorary:velka", max_tokens=190, stream=True, ignore_eos=True)
        ) as stream:
            for line in stream.iter_lines():
                lines.append(line)
                begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(60)
    process.send_signal(signal.SIGTERM)
    reader.join(60)
    assert [line for line in lines if line][-1] == "data: [DONE]"
    assert '"finish_reason": "length"' in "".join(lines)
    process.wait(30)
    with pytest.raises(httpx.TransportError):
        client.get("/health")


def test_a_server_that_is_killed_loses_no_change(folder, process_of, base, tmp_path):
    adapter = str(save_adapter(base.model, tmp_path / "new", 7, r=2, target_modules=["q_proj"]))
    process, client = process_of(folder)
    body = {"name": "torv", "adapter": adapter, "facts": FACTS, "same_base": True}
    assert client.post("/memories", json=body).status_code == 201
    text = client.post(PATH, json=asking("lorary:torv")).json()["choices"][0]["message"]["content"]
    process.kill()
    process.wait(30)
    assert answer(folder, "torv") == text.strip()


def test_the_command_tells_what_is_wrong(folder, capsys):
    for options, said in (
        (["--host", "0.0.0.0"], "--api-key"),
        (["--rows", "0"], "--rows is 0"),
        (["--port", "99999"], "99999"),
        (["--api-key", "abc"], "too short"),
    ):
        assert main(["serve", str(folder), *options]) == 2
        assert said in capsys.readouterr().err
    assert main(["serve", str(folder / "nothing")]) == 2


def test_a_server_answers_while_another_process_writes(folder, base, tmp_path):
    """Each request is answered by the composite before a change or behind it, never by a mixture or an error."""
    adapter = save_adapter(base.model, tmp_path / "new", 7, r=2, target_modules=["q_proj"])
    other = Keeper(load_composite(folder), folder)
    ended, changes = threading.Event(), 0

    def change():
        nonlocal changes
        facts = [parse_fact(FACTS[0], topic="torv", where="here")]
        while not ended.is_set():
            other.add("torv", str(adapter), facts, [], same_base=True)
            other.remove("torv")
            changes += 2

    with served(load_composite(folder), folder, key=KEY) as server, server.http() as client:
        expected = client.post(PATH, json=asking("lorary:velka")).json()["choices"]
        changer = threading.Thread(target=change)
        changer.start()
        try:
            for number in range(60):
                reply = client.post(PATH, json=asking("lorary:velka" if number % 2 else "lorary"))
                assert reply.status_code == 200, reply.text
                if number % 2:
                    assert reply.json()["choices"] == expected
        finally:
            ended.set()
            changer.join(60)
    assert changes > 2
