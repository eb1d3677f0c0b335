"""A composite served by uvicorn on a free port of this machine, in a thread of the tests."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import openai
import uvicorn

from lorary.serving.app import make_app
from lorary.serving.engine import Engine
from lorary.serving.keeping import Keeper
from lorary.serving.learning import Learner
from lorary.serving.limits import Limits
from lorary.serving.listening import listener

KEY = "a-key-of-the-tests"


@dataclass
class Served:
    """A server that runs.

    Args:
        url: without `/v1`.
    """

    url: str
    engine: Engine
    key: str | None

    def client(self, **options) -> openai.OpenAI:
        """OpenAI's own client of it."""
        return openai.OpenAI(
            **{"base_url": f"{self.url}/v1", "api_key": self.key or "none", "max_retries": 0, **options}
        )

    def http(self, **options) -> httpx.Client:
        """A plain client of it, with the key."""
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        return httpx.Client(**{"base_url": self.url, "headers": headers, "timeout": 60, **options})


@contextmanager
def served(model, folder=None, *, key=None, bank=None, buffer=None, asks=False, **limits):
    """Serves a composite while the block runs; facts are written into `bank`. `buffer` bytes lie at most in a connection."""
    keeper = Keeper(model, folder)
    engine = Engine(model, Limits(**{"seconds": 60.0, **limits}), keeper.follow)
    engine.asks = asks
    learner = None if bank is None else Learner(bank, engine.change, keeper.take_up)
    with running(make_app(engine, keeper, learner, api_key=key), buffer) as url:
        yield Served(url, engine, key)


@contextmanager
def running(app, buffer=None):
    """The address of an application that uvicorn serves while the block runs."""
    place = listener("127.0.0.1", 0)
    if buffer is not None:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=30))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
