"""A generator behind an OpenAI-compatible address. The one door to the package openai."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from lorary.errors import LoraryError, one_line
from lorary.intake.generators.prompted import Prompted, Turns

TIMEOUT = 120.0
"""Seconds that one answer may take."""
RETRIES = 3
"""How often a request is sent again after a time-out, a lost connection or a busy server."""
LONGEST = 1024
"""Tokens of the longest answer."""


class EndpointError(LoraryError):
    """A server that cannot be asked: says which, why, and what to do."""


def endpoint_generator(
    url: str | None = None,
    model: str | None = None,
    *,
    timeout: float = TIMEOUT,
    retries: int = RETRIES,
    longest: int = LONGEST,
) -> Prompted:
    """A generator that sends passages to an OpenAI-compatible server, and to nobody else.

    Args:
        url: the server's address up to /v1; None for that in OPENAI_BASE_URL. The key is that in OPENAI_API_KEY, if any.
        model: which model to ask; None for that in OPENAI_MODEL, else the only one that the server has.
        timeout: seconds that one answer may take.
        retries: how often a request is sent again after a time-out, a lost connection or a busy server.
        longest: tokens of the longest answer; of one that is cut short, the facts that are whole are taken.

    Raises:
        EndpointError: no address, no package, no such model, or no answer.
    """
    url, model = url or os.environ.get("OPENAI_BASE_URL"), model or os.environ.get("OPENAI_MODEL")
    if not url:
        raise EndpointError(
            "the generator 'endpoint' needs the address of an OpenAI-compatible server; give it (--endpoint "
            "http://127.0.0.1:8000/v1) or set OPENAI_BASE_URL"
        )
    if importlib.util.find_spec("openai") is None:
        raise EndpointError(
            "the generator 'endpoint' needs the package 'openai', which is not installed; install it "
            "(pip install 'lorary[endpoint]') or give another generator"
        )
    from openai import OpenAI

    key = os.environ.get("OPENAI_API_KEY") or "none"
    client = OpenAI(base_url=url, api_key=key, timeout=timeout, max_retries=retries)
    asked = model or _only_model(client, url)

    def complete(turns: Turns) -> str:
        answer = _answered(
            url,
            asked,
            lambda: client.chat.completions.create(model=asked, messages=turns, max_tokens=longest, temperature=0),
        )
        return (answer.choices[0].message.content or "") if answer.choices else ""

    return Prompted(complete)


def _only_model(client: Any, url: str) -> str:
    names = [model.id for model in _answered(url, "", lambda: client.models.list()).data]
    if len(names) != 1:
        told = f"it has {', '.join(sorted(names)[:8])}" if names else "it names none"
        raise EndpointError(
            f"endpoint {url}: which model is to be asked? {told}; give one (--model) or set OPENAI_MODEL"
        )
    return str(names[0])


def _answered(url: str, model: str, ask: Any) -> Any:
    """What the server answers. Raises EndpointError for whatever openai raises."""
    import openai

    try:
        return ask()
    except openai.APITimeoutError as error:
        raise EndpointError(f"endpoint {url}: no answer in time; ask a smaller model, or raise the time-out") from error
    except openai.APIConnectionError as error:
        raise EndpointError(
            f"endpoint {url}: nobody answers there; start the server, or correct the address"
        ) from error
    except openai.AuthenticationError as error:
        raise EndpointError(f"endpoint {url}: the key is refused; set OPENAI_API_KEY to one that it knows") from error
    except openai.NotFoundError as error:
        raise EndpointError(
            f"endpoint {url}: it has no model {model!r} there ({one_line(error)[:120]}); give another (--model), or correct the "
            "address, which ends in /v1 most often"
        ) from error
    except openai.OpenAIError as error:
        raise EndpointError(
            f"endpoint {url}: {one_line(error)[:200]}; read what it says, or give another endpoint"
        ) from error
