"""What a server does where something of it has failed, or where it ends at a bad moment: nobody waits for what is gone."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future
from dataclasses import replace

import pytest
from served import KEY, served
from test_serving_access import BODY, PATH, until

from lorary.bank.bank import MemoryBank
from lorary.model.composite import load_composite
from lorary.model.refreshing import refresh
from lorary.routing.encoder import load_encoder
from lorary.serving import learning
from lorary.serving.errors import RequestError
from lorary.serving.learning import Learner
from lorary.serving.listening import listener


def test_an_engine_whose_thread_has_ended_refuses_all_and_says_so(model, monkeypatch):
    """What runs then, and all that comes later, is told at once."""
    with served(model, seconds=20.0) as server, server.http() as client:
        assert client.get("/health").json() == {"status": "ok"}

        def ends():
            raise SystemExit("the end of this thread")

        monkeypatch.setattr(server.engine._batch, "step", ends)
        for _ in range(2):
            reply = client.post(PATH, json=BODY)
            assert reply.status_code == 503
            assert reply.json()["error"]["code"] == "failed"
        health = client.get("/health")
        assert (health.status_code, health.json()) == (503, {"status": "failed"})
        assert server.engine.inbox.jobs == 0
        with pytest.raises(RequestError, match="started again"):
            server.engine.change(lambda: None)


def test_a_change_that_ends_the_thread_is_told(model):
    with served(model) as server:
        future = server.engine.change(lambda: exec("raise SystemExit"))
        assert isinstance(future.exception(20), SystemExit)
        until(lambda: server.engine.state == "failed")


def test_no_process_begins_once_the_server_ends(tmp_path, monkeypatch):
    """It ends at the moment in which a change is about to start its process."""
    begun = []
    learner = Learner(tmp_path, lambda work: Future(), lambda bank, names: None)
    work = learning.tempfile.TemporaryDirectory

    def ending():
        threading.Thread(target=learner.close).start()
        until(lambda: learner._closing)
        return work()

    monkeypatch.setattr(learning.tempfile, "TemporaryDirectory", ending)
    monkeypatch.setattr(learning.subprocess, "Popen", lambda *args, **kwargs: begun.append(args))
    assert learner._written(["forget"], None) == "the server ends"
    assert begun == []


def test_pieces_of_a_reply_leave_at_once():
    """Else a piece waits for the client's acknowledgement of the one before: 40 ms a request on a connection that is kept."""
    at_once = []

    async def take(_, writer):
        at_once.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async def ask():
        place = listener("127.0.0.1", 0)
        async with await asyncio.start_server(take, sock=place):
            reader, writer = await asyncio.open_connection(*place.getsockname())
            await reader.read()
            writer.close()

    asyncio.run(ask())
    assert at_once == [1]


def test_what_another_process_writes_to_the_composite_is_taken_up(stations):
    """As `lorary mcp` does beside a server: memories that left, and files that are gone, are not asked; changes go on."""
    bank, composite = stations
    with served(load_composite(composite), composite, key=KEY) as server, server.http() as client:
        with MemoryBank.change(bank) as changed:
            changed.remove("tresk")
            old = changed.memories["velka"]
            changed.memories["velka"] = replace(old, facts=old.facts[:2]).with_keys(load_encoder(changed.encoder))
        refresh(composite, bank)
        assert client.post(PATH, json={**BODY, "model": "lorary:velka"}).status_code == 200
        assert client.post(PATH, json={**BODY, "model": "lorary:tresk"}).status_code == 404
        named = [own["id"] for own in client.get("/v1/models").json()["data"]]
        assert named == ["lorary", "lorary:ormen", "lorary:velka", "lorary:__base__"]
        quay = {"name": "quay", "documents": [{"source": "quay.md", "text": "The quay of Ormen is swept by Signe."}]}
        assert client.post("/memories", json=quay).status_code == 201
        with MemoryBank.change(composite) as changed:
            changed.remove("ormen")
        assert client.delete("/memories/velka").status_code == 200
    assert load_composite(composite).memories == ["quay"]
