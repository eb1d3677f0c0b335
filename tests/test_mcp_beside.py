"""The tools of agents beside a server, or another writer, of the same composite: each sees what the other changed."""

from __future__ import annotations

import threading

import anyio
import pytest

pytest.importorskip("mcp")
from agents import process, run
from served import served
from stations import FACTS

from lorary.model.composite import load_composite

COOK = FACTS["velka"][0].question
KEY = "a-key-of-the-tests"
TORV = {
    "question": "Who mends the boat of Torv?",
    "answer": "Tilde",
    "questions": ["Name the mechanic of Torv's boat."],
}


def test_the_tools_and_a_server_of_one_composite_follow_each_other(stations, tmp_path):
    """What a server changes, the tools tell at the next call, and the other way round; what the tools forget is let go of."""
    bank, composite = stations
    adapter = str(bank / "memories" / "velka")
    body = {"name": "torv", "adapter": adapter, "facts": [TORV], "same_base": True}

    async def told(client, question):
        recalled = await client.call_tool("recall", {"question": question})
        listed = await client.call_tool("list_memories", {})
        which = await client.call_tool("which_memory", {"question": question})
        assert not recalled.is_error, recalled
        answer, alone = recalled.structured_content, load_composite(composite).ask(question, max_new_tokens=64)
        assert (answer["answer"], answer["outcome"]) == (alone.text, alone.route.outcome)
        names = [memory["name"] for memory in listed.structured_content["memories"]]
        return names, which.structured_content["nearest_memory"]

    async def work(client):
        assert (await told(client, COOK))[0] == ["ormen", "tresk", "velka"]
        assert (await anyio.to_thread.run_sync(lambda: http.post("/memories", json=body))).status_code == 201
        assert await told(client, TORV["question"]) == (["ormen", "tresk", "velka", "torv"], "torv")
        changed = {"adapter": str(bank / "memories" / "tresk"), "facts": [TORV], "same_base": True}
        assert http.put("/memories/torv", json=changed).status_code == 200
        await told(client, TORV["question"])
        assert http.delete("/memories/torv").status_code == 200
        names, nearest = await told(client, TORV["question"])
        assert names == ["ormen", "tresk", "velka"]
        assert nearest != "torv"

        chat = {"model": "lorary:ormen", "messages": [{"role": "user", "content": 8 * COOK}], "max_tokens": 4}
        assert http.post("/v1/chat/completions", json=chat).status_code == 200
        kept = server.engine._batch.prefixes
        server.engine.change(lambda: None).result(60)  # the answer has left its row
        assert kept.bytes
        gone = await client.call_tool("forget", {"memory": "ormen", "everything": True})
        assert gone.structured_content["left_the_bank"], gone
        assert [one["name"] for one in http.get("/memories").json()["memories"]] == ["tresk", "velka"]
        assert http.post("/v1/chat/completions", json=chat).status_code == 404
        assert not kept.bytes, "what was read under it went with it"
        assert (await told(client, COOK))[0] == ["tresk", "velka"]

    with served(load_composite(composite), composite, key=KEY) as server, server.http() as http:
        run(process(composite, "--allow-write", "--bank", bank), work)


def test_the_tools_answer_while_a_server_changes_the_composite(stations):
    """A composite that is written while it is read is read whole, before the change or behind it."""
    bank, composite = stations
    body = {"name": "torv", "adapter": str(bank / "memories" / "velka"), "facts": [TORV], "same_base": True}
    ended, statuses = threading.Event(), []

    def change(http):
        while not ended.is_set():
            statuses.append(http.post("/memories", json=body).status_code)
            statuses.append(http.delete("/memories/torv").status_code)

    async def work(client):
        seen = set()
        try:
            for number in range(10):
                question = (COOK, TORV["question"])[number % 2]
                recalled = await client.call_tool("recall", {"question": question})
                assert not recalled.is_error, recalled.content[0].text
                listed = await client.call_tool("list_memories", {"memory": "velka"})
                assert not listed.is_error, listed.content[0].text
                seen.add(recalled.structured_content["outcome"])
        finally:
            ended.set()
        return seen

    with served(load_composite(composite), composite, key=KEY) as server, server.http() as http:
        changer = threading.Thread(target=change, args=(http,))
        changer.start()
        run(process(composite), work)
        changer.join(60)
    assert {*statuses} == {200, 201}
