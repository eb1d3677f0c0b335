"""The tools of agents, by the protocol's own client: over a real process's standard input and output, and over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager

import anyio
import pytest

pytest.importorskip("mcp")
import httpx2
import jsonschema
import uvicorn
from agents import ENVIRONMENT, process, run, said
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from stations import FACTS, IDS

from lorary.__main__ import main
from lorary.bank.bank import MemoryBank
from lorary.model.composite import load_composite
from lorary.serving.following import stamp_of
from lorary.serving.mcp import Loaded, make_server
from lorary.serving.mcp_listening import http_app

READING = ["recall", "which_memory", "list_memories"]
WRITING = ["remember", "forget"]
NOT_SAID = ({}, {"facts": []}, {"facts": None}, {"facts": "null"}, {"facts": ["x"], "everything": True})
"""What does not say whether facts are to be forgotten, or a whole memory: the SDK reads the text "null" as no value."""
COOK = FACTS["velka"][0].question
KEY = "a-key-of-the-tests"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_process_answers_by_the_protocol(stations, mode):
    """initialize, list, a schema for each tool, a call that fits its schema, bad arguments, an unknown tool."""

    async def work(client):
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == READING
        for tool in tools:
            jsonschema.Draft202012Validator.check_schema(tool.input_schema)
            jsonschema.Draft202012Validator.check_schema(tool.output_schema)
            assert tool.description
            assert tool.annotations.read_only_hint
        schemas = {tool.name: tool.output_schema for tool in tools}
        replies = {
            "recall": await client.call_tool("recall", {"question": COOK}),
            "which_memory": await client.call_tool("which_memory", {"question": COOK}),
            "list_memories": await client.call_tool("list_memories", {"memory": "velka"}),
        }
        for name, reply in replies.items():
            assert not reply.is_error, reply
            jsonschema.validate(reply.structured_content, schemas[name])
            assert json.loads(reply.content[0].text) == reply.structured_content
        wrong = [
            await client.call_tool("recall", {}),
            await client.call_tool("recall", {"question": 3}),
            await client.call_tool("recall", {"question": "  "}),
            await client.call_tool("list_memories", {"memory": "paris"}),
        ]
        try:
            unknown = said(await client.call_tool("forget", {"memory": "velka"}))
        except Exception as error:  # the newest protocol may tell it as an error of its own
            unknown = str(error)
        return client.server_info, replies, [said(reply) for reply in wrong], unknown

    server, replies, wrong, unknown = run(process(stations[1]), work, mode=mode)
    assert server.name == "lorary"
    answer = load_composite(stations[1]).ask(COOK)
    recalled = replies["recall"].structured_content
    assert (recalled["answer"], recalled["outcome"]) == (answer.text, answer.route.outcome)
    assert recalled["probability"] == pytest.approx(answer.probability, abs=1e-3)
    assert replies["which_memory"].structured_content["nearest_memory"] == "velka"
    (held,) = replies["list_memories"].structured_content["memories"]
    assert [fact["id"] for fact in held["held"]] == [fact.id for fact in FACTS["velka"]]
    assert "question" in wrong[0]
    assert "string" in wrong[1]
    assert "empty" in wrong[2]
    assert "'paris' has no memory; the bank holds" in wrong[3]
    assert "forget" in unknown


def test_a_process_prints_the_protocol_alone_and_ends_with_its_input(stations):
    """Even where libraries print: every line of the output is a message."""
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
    }
    calls = [
        hello,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "recall", "arguments": {"question": COOK}},
        },
    ]
    command = [sys.executable, "-m", "lorary", "mcp", str(stations[0])]  # a bank without a router warns
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as server:
        for call in calls:
            server.stdin.write(json.dumps(call) + "\n")
        server.stdin.flush()
        lines = [server.stdout.readline(), server.stdout.readline()]
        out, err = server.communicate(timeout=60)
    lines += out.splitlines()
    messages = [json.loads(line) for line in lines]
    assert all(message["jsonrpc"] == "2.0" for message in messages)
    assert [message["id"] for message in messages] == [1, 2]
    assert server.returncode == 0, err
    assert "without a trained router" in err


def test_remember_and_forget_are_written_and_seen_at_once(stations):
    bank, composite = stations
    new = {
        "question": "Who tends the garden of Velka?",
        "answer": "Moss",
        "questions": ["Name the gardener of Velka.", "Velka's garden is tended by whom?"],
    }

    async def work(client):
        assert [tool.name for tool in (await client.list_tools()).tools] == [*READING, *WRITING]
        remembered = await client.call_tool("remember", {"memory": "garden", "facts": [new]})
        assert not remembered.is_error, remembered
        listed = await client.call_tool("list_memories", {"memory": "garden"})
        which = await client.call_tool("which_memory", {"question": new["question"]})
        forgot = await client.call_tool("forget", {"memory": "ormen", "facts": IDS})
        left = await client.call_tool("list_memories", {"memory": "ormen"})
        gone = await client.call_tool("forget", {"memory": "garden", "everything": True})
        after = await client.call_tool("list_memories", {})
        wrong = [
            await client.call_tool("remember", {}),
            await client.call_tool("remember", {"facts": [new]}),
            await client.call_tool("remember", {"memory": "../x", "facts": [new]}),
            await client.call_tool("forget", {"memory": "ormen", "facts": ["nothing"]}),
            *[await client.call_tool("forget", {"memory": "ormen", **what}) for what in NOT_SAID],
        ]
        results = remembered, listed, which, forgot, left, gone, after
        return [one.structured_content for one in results], [said(one) for one in wrong]

    results, wrong = run(process(composite, "--allow-write", "--bank", bank), work)
    remembered, listed, which, forgot, left, gone, after = results
    assert [change["memory"] for change in remembered["changes"]] == ["garden"]
    assert [fact["answer"] for fact in listed["memories"][0]["held"]] == ["Moss"]
    assert which["nearest_memory"] == "garden"
    assert len(forgot["facts"]) == len(IDS)
    assert not {fact["id"] for fact in left["memories"][0]["held"]} & {*IDS}
    assert gone["left_the_bank"]
    assert [memory["name"] for memory in after["memories"]] == ["ormen", "tresk", "velka"]
    for folder in stations:
        assert {*MemoryBank.load(folder).names} == {"ormen", "tresk", "velka"}
        assert not {fact.id for fact in MemoryBank.load(folder)["ormen"].facts} & {*IDS}
    assert "nothing is given to remember" in wrong[0]
    assert "facts need the name of their memory" in wrong[1]
    assert "'../x'" in wrong[2]
    assert "nothing" in wrong[3]
    assert ["one of the two" in text for text in wrong[4:]] == [True, True, False, False, True]
    assert all("valid list" in text for text in wrong[6:8])


def test_sentences_are_remembered_and_no_file_is_read(stations, tmp_path):
    bank, _ = stations
    secret = tmp_path / "secret file.txt"
    secret.write_text("The code of the safe is 1234.")

    async def work(client):
        told = {"memory": "notes", "sentences": ["The cook at Borr is Halvard Brisk.", str(secret)]}
        reply = await client.call_tool("remember", told)
        assert not reply.is_error, reply

    run(process(bank, "--allow-write"), work)
    notes = MemoryBank.load(bank)["notes"]
    assert str(secret) in {passage.text for passage in notes.documents}
    assert "1234" not in json.dumps([fact.to_json() for fact in notes.facts] + [p.to_json() for p in notes.documents])


def test_what_cannot_be_is_told_before_anything_is_loaded(stations, capsys):
    bank, composite = stations
    assert main(["mcp", str(composite), "--allow-write"]) == 2
    assert "give --bank BANK" in capsys.readouterr().err
    assert main(["mcp", str(bank), "--bank", str(bank)]) == 2
    assert "leave it out" in capsys.readouterr().err
    assert main(["mcp", str(composite), "--http", "--host", "0.0.0.0"]) == 2
    assert "lets other machines ask; give --api-key" in capsys.readouterr().err
    assert main(["mcp", str(composite), "--http", "--host", "0.0.0.0", "--api-key", "short"]) == 2
    assert capsys.readouterr().out == ""


@asynccontextmanager
async def listening(app):
    """The address of the tools, served by uvicorn on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.should_exit = True
        await anyio.to_thread.run_sync(thread.join)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_http_answers_as_the_process_does_and_asks_for_the_key(stations, host):
    server = make_server(Loaded(stations[1], load_composite(stations[1]), stamp_of(stations[1])), None)

    async def work():
        app = http_app(server, host, KEY)
        async with listening(app) as url:
            async with httpx2.AsyncClient() as plain:
                bare = await plain.post(url, json={})
                wrong = await plain.post(url, json={}, headers={"authorization": "Bearer other"})
                elsewhere = await plain.post(
                    url, json={}, headers={"authorization": f"Bearer {KEY}", "host": "evil.example"}
                )
            async with (
                httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}) as keyed,
                Client(streamable_http_client(url, http_client=keyed)) as client,
            ):
                names = [tool.name for tool in (await client.list_tools()).tools]
                recalled = await client.call_tool("recall", {"question": COOK})
                bad = await client.call_tool("recall", {"question": []})
        return [bare.status_code, wrong.status_code, elsewhere.status_code], names, recalled, bad

    statuses, names, recalled, bad = anyio.run(work)
    assert statuses[:2] == [401, 401]
    assert statuses[2] == 403 or host == "0.0.0.0"
    assert names == READING
    assert recalled.structured_content["answer"] == load_composite(stations[1]).ask(COOK).text
    assert "question" in said(bad)


def test_the_command_listens_and_says_where(stations):
    command = [sys.executable, "-m", "lorary", "mcp", str(stations[1]), "--http", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as server:
        try:
            line = next(line for line in server.stderr if "lorary serves at" in line)
            url = line.split()[-1]
            assert url.endswith("/mcp")

            async def work(client):
                return [tool.name for tool in (await client.list_tools()).tools]

            assert run(url, work) == READING
        finally:
            server.terminate()
        out, _ = server.communicate(timeout=60)
    assert out == ""
