"""Access: who may ask, and what every reply goes through: the key, the host, the size, the counts and one line of log."""

from __future__ import annotations

import logging
import secrets
import time
from ipaddress import ip_address

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lorary.errors import LoraryError
from lorary.serving.errors import RequestError
from lorary.serving.metrics import Metrics

OPEN = ("/health", "/", "/page.css", "/page.js")
"""What is told without a key: it holds nothing of the composite."""
_LOG = logging.getLogger("lorary.serving")


def is_local(host: str) -> bool:
    """Whether a host is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, api_key: str | None) -> None:
    """Raises LoraryError where others could ask without a key."""
    if api_key is not None and (len(api_key) < 8 or not api_key.isascii() or not api_key.isprintable()):
        raise LoraryError(
            "the key is too short or not plain ASCII; give 8 or more letters, such as `openssl rand -hex 16`"
        )
    if api_key is None and not is_local(host):
        raise LoraryError(
            f"--host {host} lets other machines ask; give --api-key (or LORARY_API_KEY), or leave --host 127.0.0.1"
        )


class Access:
    """The application behind its checks.

    Args:
        api_key: that requests must bring, as `Authorization: Bearer KEY`; None lets all ask.
        local: whether the server listens for this machine alone. Then requests that name another host are refused, since a
            web page may let its own name lead here.
    """

    def __init__(self, app: ASGIApp, *, api_key: str | None, local: bool, metrics: Metrics) -> None:
        self.app, self.api_key, self.local, self.metrics = app, api_key, local, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.monotonic(), 499
        self.metrics.in_progress.inc()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if (error := self._refusal(Request(scope))) is not None:
                await JSONResponse(error.body, error.status)(scope, receive, sending)
            else:
                await self.app(scope, receive, sending)
        finally:
            endpoint = getattr(scope.get("route"), "path", "other")
            seconds = time.monotonic() - begun
            self.metrics.in_progress.dec()
            self.metrics.requests.labels(endpoint, str(status)).inc()
            if endpoint.startswith("/v1/"):
                self.metrics.seconds.observe(seconds)
            _LOG.info("%s %s %s %.3f s", scope["method"], endpoint, status, seconds)

    def _refusal(self, request: Request) -> RequestError | None:
        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        if self.local and not is_local(host):
            return RequestError(403, "this server answers this machine alone; ask it as localhost", "wrong_host")
        if self.api_key is None or request.scope["path"] in OPEN:
            return None
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and secrets.compare_digest(key.strip().encode(), self.api_key.encode()):
            return None
        return RequestError(401, "the key is missing or wrong; send `Authorization: Bearer KEY`", "invalid_api_key")


async def body_of(request: Request, most: int) -> bytes:
    """The body of a request, as JSON.

    Raises:
        RequestError: it is longer than `most` bytes, or called something else than JSON. A web page can send other kinds
            to this machine without being allowed to.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(
            415, "the body must be JSON; send `Content-Type: application/json`", "unsupported_media_type"
        )
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > most:
            raise RequestError(413, f"the request is longer than {most} bytes; shorten it", "request_too_large")
    return content
