"""What a request cannot have, in the shape in which OpenAI's API says it."""

from __future__ import annotations

from typing import Any

from lorary.errors import LoraryError

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class RequestError(LoraryError):
    """A request that gets no answer.

    Args:
        status: of HTTP.
        message: what was given, what is allowed, what to do.
        code: a word for programs.
        param: the field of the request that is wrong.
    """

    def __init__(self, status: int, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    @property
    def body(self) -> dict[str, Any]:
        """The reply, as OpenAI's clients read it."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def closing() -> RequestError:
    """What is told to who asks a server that ends."""
    return RequestError(503, "this server is ending; ask again when it is back", "closing")


def failed() -> RequestError:
    """What is told to who asks a server whose engine has ended by itself."""
    return RequestError(503, "this server has failed and must be started again; tell who runs it", "failed")


def late(seconds: float) -> RequestError:
    """What is told to who waited for longer than a request may take."""
    return RequestError(504, f"no answer within {seconds:g} s; ask for fewer tokens, or later", "timeout")
