"""The clients of the bench of a server: many ask at once over HTTP, as cheaply as can be, since they share its processor."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorary.research.settings import StudyError

KEY = "the-key-of-the-bench"


@dataclass(frozen=True)
class Question:
    """What a client asks.

    Args:
        ids: the tokens of the prompt.
        model: of OpenAI's API: `lorary` routes, `lorary:NAME` names a memory.
        fields: more of the request, for another engine.
    """

    ids: tuple[int, ...]
    model: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """What came.

    Args:
        text: of the answer.
        first: seconds to the first piece.
        seconds: to the end.
        memory: that answered; None for the base.
        finished: whether the answer came to its end.
    """

    text: str
    first: float
    seconds: float
    memory: str | None
    finished: bool


@contextmanager
def running_server(folder: Path, base: str, dtype: str, log: Path, *options: str) -> Iterator[tuple[int, int]]:
    """(the port, the process) of `lorary serve` over a composite, in a process of its own that ends with the block."""
    command = ["lorary", "serve", str(folder), "--base", base, "--dtype", dtype, "--port", "0", "--api-key", KEY]
    with running([*command, *options], "lorary serves at ", log) as told:
        yield told


@contextmanager
def running(command: Sequence[str], says: str, log: Path) -> Iterator[tuple[int, int]]:
    """(the port, the process) of a module of Python that serves, in a process of its own that ends with the block.

    Args:
        says: how the line of its standard error begins that ends with its address.
        log: takes its standard error.
    """
    if threading.current_thread() is threading.main_thread():  # a bench that is stopped leaves no server behind
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with log.open("wb") as said:
        process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=said)
    try:
        yield _port(process, says, log), process.pid
    finally:
        process.terminate()
        process.wait(120)


def _port(process: subprocess.Popen[bytes], says: str, log: Path) -> int:
    while True:
        lines = [line for line in log.read_text().splitlines() if line.startswith(says)]
        if lines:
            return int(lines[0].rpartition(":")[2].partition("/")[0])
        if process.poll() is not None:
            raise StudyError(
                f"the server ended with {process.returncode}: {log.read_text()[-500:]}; start it by itself"
            )
        time.sleep(0.1)


def processor_seconds(process: int) -> float:
    """What a process has used of the processor so far, which tells more than a clock on a machine that others use; 0 where the
    system does not tell."""
    status = Path(f"/proc/{process}/stat")
    if not status.exists():
        return 0.0
    told = status.read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


async def asked(port: int, question: Question, answer: int) -> Reply:
    """The streamed reply to one question, of so many tokens."""
    begun = time.perf_counter()
    body = {
        "model": question.model,
        "prompt": list(question.ids),
        "max_tokens": answer,
        "stream": True,
        "ignore_eos": True,
        **question.fields,
    }
    first, texts, memory, finished = 0.0, [], None, False
    async for line in _lines(port, "POST", "/v1/completions", body):
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line[6:])
        if "error" in chunk:
            raise StudyError(f"the server refused: {chunk['error']['message']}; read its log")
        first = first or time.perf_counter() - begun
        choice = chunk["choices"][0]
        texts.append(choice["text"])
        if choice["finish_reason"]:
            memory, finished = chunk.get("lorary", {}).get("memory"), True
    return Reply("".join(texts), first, time.perf_counter() - begun, memory, finished)


async def sent(port: int, method: str, path: str, body: Any = None) -> Any:
    """What a request that is no stream gets."""
    text = [line async for line in _lines(port, method, path, body)]
    return json.loads(b"".join(text) or b"null")


async def _lines(port: int, method: str, path: str, body: Any) -> Any:
    """The lines of a reply's body; raises StudyError for a status of 400 or more."""
    content = b"" if body is None else json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    try:
        writer.write(head.encode() + content)
        status = int((await reader.readline()).split()[1])
        while (await reader.readline()).strip():
            pass
        if status >= 400:
            raise StudyError(f"the server answered {status}: {(await reader.read())[-300:]!r}; read its log")
        while line := await reader.readline():
            yield line
    finally:
        writer.close()


async def loaded(port: int, questions: Sequence[Question], clients: int, answer: int) -> tuple[list[Reply], float]:
    """(the reply to each question, the seconds of all), where so many clients ask, each its next question after a reply."""
    replies: list[Reply | None] = [None] * len(questions)
    left = iter(range(len(questions)))

    async def client() -> None:
        for number in left:
            replies[number] = await asked(port, questions[number], answer)

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return [reply for reply in replies if reply is not None], time.perf_counter() - begun
