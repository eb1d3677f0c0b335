"""Agents of the tests: the protocol's own client, over the real process or a server that is made here."""

from __future__ import annotations

import os
import sys

import anyio
from mcp import Client, StdioServerParameters

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def process(*arguments):
    """The command as a client starts it."""
    return StdioServerParameters(
        command=sys.executable, args=["-m", "lorary", "mcp", *map(str, arguments)], env=ENVIRONMENT
    )


def run(server, work, **options):
    """What `work` returns of a client that is connected to a server."""

    async def connected():
        async with Client(server, **options) as client:
            return await work(client)

    return anyio.run(connected)


def said(result):
    """The text of a result that is an error."""
    assert result.is_error
    return result.content[0].text
