#!/usr/bin/env bash
# mcp 2.3.0: a tool whose text may be left out gets no text where the text is "null", and refuses texts that are JSON.
#
# The SDK reads the arguments of a tool as JSON before it checks them, for clients that write lists as text. It leaves
# parameters of type `str` alone, but not those of `str | None`, the usual type of a text that may be left out. "null"
# then arrives as None, and '{"a": 1}' and '["a"]' are refused as no strings, though the schema that the client was given
# allows any text. The same texts pass through a parameter of type `str`. So does "null" for a list that may be left
# out: a client that writes it has given nothing, and a tool that takes nothing for "all of it" does all of it.
#
# Seen: 'null' → None where the parameter is `str | None`, 'null' where it is `str`; '{"a": 1}' and '["a"]' refused and
# taken; "null" → None where it is `list[str] | None`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check mcp==2.3.0 2>/dev/null
cat > "$work/finding.py" <<'PYTHON'
import sys
from importlib.metadata import version

import anyio
from mcp.client import Client
from mcp.server import MCPServer

TEXTS = ("plain", "null", '{"a": 1}', '["a"]')
server = MCPServer("notes", log_level="ERROR")


@server.tool()
def needed(text: str) -> str:
    return repr(text)


@server.tool()
def optional(text: str | None = None) -> str:
    return repr(text)


@server.tool()
def listed(text: list[str] | None = None) -> str:
    return repr(text)


async def main():
    async with Client(server) as client:
        schema = {tool.name: tool.input_schema["properties"]["text"] for tool in (await client.list_tools()).tools}

        async def got(tool, text):
            reply = await client.call_tool(tool, {"text": text})
            return "refused" if reply.is_error else reply.content[0].text

        seen = {tool: [await got(tool, text) for text in TEXTS] for tool in ("needed", "optional")}
        return schema["optional"]["anyOf"], seen, await got("listed", "null")


allowed, seen, nothing = anyio.run(main)
print(f"mcp {version('mcp')}")
print(f"given: {list(map(repr, TEXTS))}")
print(f"str: {seen['needed']}")
print(f"str | None, told as {allowed}: {seen['optional']}")
print(f"list[str] | None, given 'null': {nothing}")
expected = (
    seen["needed"] == [repr(text) for text in TEXTS]
    and seen["optional"] == ["'plain'", "None", "refused", "refused"]
    and {"type": "string"} in allowed
    and nothing == "None"
)
print("as described" if expected else "THIS HAS CHANGED")
sys.exit(not expected)
PYTHON
"$work/venv/bin/python" "$work/finding.py"
