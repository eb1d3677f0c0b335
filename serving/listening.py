"""Listening: uvicorn serves the application, and says where once it does."""

from __future__ import annotations

import socket
import sys

import uvicorn
from starlette.types import ASGIApp

from lorary.errors import LoraryError, one_line


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens there; those who ask before the model is loaded wait.

    Raises:
        LoraryError: the address cannot be listened at.
    """
    if not 0 <= port <= 65535:
        raise LoraryError(f"--port is {port}; give one from 0, which picks a free one, to 65535")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        place = socket.create_server((host.strip("[]"), port), family=family, backlog=512)
    except OSError as error:
        message = f"{host}:{port} cannot be listened at: {one_line(error)}; give another --port or --host"
        raise LoraryError(message) from error
    # asyncio sends small pieces at once (TCP_NODELAY) only through a socket that names its protocol, which Python's
    # create_server leaves out: then every second piece waits up to 40 ms for the client's acknowledgement of the first.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=place.detach())


def listen(app: ASGIApp, place: socket.socket, seconds: float, path: str = "/v1", page: bool = False) -> None:
    """Serves until SIGTERM or Ctrl-C; then what runs goes on to its end, and nothing new is taken.

    Args:
        seconds: that what runs then may take.
        path: that is told with the address.
        page: whether a page for people is there, too, which is told then.
    """
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=int(seconds) + 1, server_header=False
    )
    host, port = place.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    also = f"\na page to ask it is at http://{name}:{port}/" if page else ""
    print(f"lorary serves at http://{name}:{port}{path}{also}", file=sys.stderr, flush=True)
    uvicorn.Server(config).run(sockets=[place])
