#!/usr/bin/env bash
# A uvicorn 0.54.0 server answers in pieces 40 ms later when it is given its socket, as several workers are.
#
# uvicorn opens the port in one of two ways. `uvicorn.run(app)` lets asyncio open it. With `workers=` or `reload=`, and in
# programs that bind first to learn a free port, `Config.bind_socket()` opens it. That socket does not name its protocol
# (`socket.socket(family)`: `proto` is 0), and asyncio turns Nagle's algorithm off only for sockets whose `proto` is
# IPPROTO_TCP. So a reply that is written in two pieces, as any is that streams, waits for the client's delayed
# acknowledgement on each request of a kept connection. A socket made with `proto=socket.IPPROTO_TCP` does not wait, nor
# does any with uvloop.
#
# Seen with Python 3.11 on Linux: TCP_NODELAY is 1 where asyncio opens the port and 0 where uvicorn binds it; a reply of two
# pieces then took 7 ms and 48 ms on a busy machine, and 0.3 to 3 ms through a socket that names its protocol (the median
# of 15 on one connection). With uvloop 0.23.0 all three took less than 1 ms.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check uvicorn==0.54.0 h11==0.16.0 2>/dev/null
cat > "$work/finding.py" <<'PYTHON'
import http.client
import platform
import socket
import statistics
import sys
import threading
import time

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

NODELAY = []


class Watched(H11Protocol):
    """uvicorn's own protocol, which also notes what the system says of the connection."""

    def connection_made(self, transport):
        super().connection_made(transport)
        NODELAY.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    await send({"type": "http.response.body", "body": b"later"})


def asked(bind):
    """(TCP_NODELAY of the server's side, the median seconds of a reply) of a server whose socket `bind` opens."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, http=Watched, loop="asyncio", lifespan="off", log_level="error")
    server, sockets = uvicorn.Server(config), bind(config)
    threading.Thread(target=server.run, kwargs={"sockets": sockets}, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    port = (sockets or server.servers[0].sockets)[0].getsockname()[1]
    client, took = http.client.HTTPConnection("127.0.0.1", port), []
    for _ in range(15):
        began = time.perf_counter()
        client.request("GET", "/")
        assert client.getresponse().read() == b"firstlater"
        took.append(time.perf_counter() - began)
    client.close()
    server.should_exit = True
    return NODELAY[-1], statistics.median(took)


def named(_):
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    opened.bind(("127.0.0.1", 0))
    return [opened]


print({"uvicorn": uvicorn.__version__, "python": platform.python_version()})
seen = {
    "asyncio opens the port": asked(lambda config: None),
    "uvicorn binds it": asked(lambda config: [config.bind_socket()]),
    "a socket that names its protocol": asked(named),
}
for way, (nodelay, seconds) in seen.items():
    print(f"{way}: TCP_NODELAY {nodelay}, a reply of two pieces takes {seconds * 1000:.1f} ms")
same = [nodelay for nodelay, _ in seen.values()] == [1, 0, 1] and seen["uvicorn binds it"][1] > 0.02
sys.exit(0 if same else "the behaviour has changed: this finding is over")
PYTHON
"$work/venv/bin/python" "$work/finding.py"
