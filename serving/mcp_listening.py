"""Agents reach the tools by standard input and output, or by HTTP."""

from __future__ import annotations

import socket

from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp

from lorary.serving.access import Access, is_local
from lorary.serving.listening import listen
from lorary.serving.metrics import Metrics

PATH = "/mcp"
_SECONDS = 30.0
"""That a call may go on once the server is to end."""


def run_stdio(server: MCPServer) -> None:
    """Serves until standard input ends. Meanwhile all that is printed goes to standard error: the output is the protocol's."""
    server.run("stdio")


def http_app(server: MCPServer, host: str, api_key: str | None) -> ASGIApp:
    """The tools at `/mcp`, behind the checks that `lorary serve` makes: the key, and the host that a request names."""
    checked = is_local(host)
    # Our own check of the host comes first; the SDK's would refuse a name that a person chose to listen at.
    security = None if checked else TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(streamable_http_path=PATH, host=host, transport_security=security)
    return Access(app, api_key=api_key, local=checked, metrics=Metrics())


def run_http(server: MCPServer, place: socket.socket, host: str, api_key: str | None) -> None:
    """Serves at a socket that listens, until SIGTERM or Ctrl-C."""
    listen(http_app(server, host, api_key), place, _SECONDS, PATH)
