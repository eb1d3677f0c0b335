"""Listening: uvicorn serves the application, and says where once it does."""

from __future__ import annotations

import socket
import sys

import uvicorn
from fastapi import FastAPI

from lorary.errors import LoraryError, one_line


def listen(app: FastAPI, host: str, port: int, seconds: float) -> None:
    """Serves until SIGTERM or Ctrl-C; then what runs goes on to its end, and nothing new is taken.

    Args:
        seconds: that what runs then may take.

    Raises:
        LoraryError: the address cannot be listened at.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host.strip("[]"), port), family=family, backlog=512)
    except OSError as error:
        message = f"{host}:{port} cannot be listened at: {one_line(error)}; give another --port or --host"
        raise LoraryError(message) from error
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=int(seconds) + 1, server_header=False
    )
    name = f"[{host}]" if ":" in host else host
    with listener:
        print(f"lorary serves at http://{name}:{listener.getsockname()[1]}/v1", file=sys.stderr, flush=True)
        uvicorn.Server(config).run(sockets=[listener])
