"""The command `serve`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from lorary.errors import LoraryError
from lorary.options import Options, made, taken
from lorary.serving.limits import Limits


def serve(argv: list[str]) -> None:
    """Serves a composite until it is ended."""
    parser = Options(
        "serve",
        "Serves a composite with OpenAI's API, for this machine alone: /v1/chat/completions, /v1/completions, /v1/models, "
        "/memories, /health, /metrics. The model 'lorary' routes, 'lorary:NAME' asks a memory, 'lorary:__base__' the base.",
        "COMPOSITE",
    )
    parser.add_argument(
        "composite", metavar="COMPOSITE", help="folder of the composite, or of a bank whose router is not trained yet"
    )
    parser.add_argument(
        "--host", metavar="ADDRESS", default="127.0.0.1", help="address to listen at; another needs a key"
    )
    parser.add_argument("--port", metavar="N", type=int, default=8000, help="port to listen at; 0 picks a free one")
    parser.add_argument("--api-key", metavar="KEY", help="key that requests must bring; LORARY_API_KEY by default")
    parser.add_argument(
        "--bank",
        metavar="BANK",
        help="bank of the composite: facts that are told or forgotten are written there; its changes are taken up at the start",
    )
    parser.add_argument(
        "--upstream",
        metavar="URL",
        help="engine that holds the memories as adapters: requests are routed here and answered there; needs --memories",
    )
    parser.add_argument(
        "--memories", metavar="FILE", help="JSON file of how that engine names each memory and the base"
    )
    parser.add_argument("--upstream-key", metavar="KEY", help="key that it wants; LORARY_UPSTREAM_KEY by default")
    parser.add_argument("--base", metavar="NAME", help="where the base is, if not where the composite says")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="of the base; what this machine multiplies fastest"
    )
    parser.add_argument(
        "--answers",
        choices=("route", "ask"),
        default="route",
        help="ask: the field 'lorary' of a reply also tells what `lorary ask` gives, which weighs the memory's answer, the "
        "stored one and the base's (default: route)",
    )
    parser.add_argument(
        "--log-requests", action="store_true", help="log each request: endpoint, status, seconds; no text"
    )
    parser.add_record(Limits, "limits")
    options = parser.parse_args(argv)
    from lorary.serving.access import check_exposure

    api_key = options.api_key or os.environ.get("LORARY_API_KEY") or None
    check_exposure(options.host, api_key)
    _check_together(options)
    limits = made(Limits, options)
    _check_installed()
    if options.log_requests:
        logging.basicConfig(format="%(asctime)s %(message)s")
        logging.getLogger("lorary.serving").setLevel(logging.INFO)
    from lorary.serving.listening import listen, listener

    with listener(options.host, options.port) as place:
        app = _made(options, api_key, limits) if options.upstream is None else _in_front(options, api_key, limits)
        listen(app, place, limits.seconds, page=options.upstream is None)


def _check_together(options: Any) -> None:
    """Raises LoraryError for options that do not go together."""
    if (options.upstream is None) != (options.memories is None):
        raise LoraryError("--upstream and --memories belong together; give both, or neither")
    here = [name for name in ("bank", "base", "dtype") if getattr(options, name) is not None]
    if options.upstream is not None and here:
        raise LoraryError(
            f"--{here[0]} is for a model that runs here, and --upstream lets an engine run it; leave one out"
        )
    if options.upstream is not None and options.answers == "ask":
        raise LoraryError(
            "--answers ask asks a model that runs here, and --upstream lets an engine run it; leave one out"
        )
    if options.bank is not None and options.base is not None:
        raise LoraryError(
            "--bank writes facts on the base that the bank names, which --base would not change; leave one out"
        )
    if options.bank is not None and Path(options.bank).resolve() == Path(options.composite).resolve():
        raise LoraryError("--bank is the folder that is served; give the composite that was trained on it")
    if options.upstream is not None and not options.upstream.startswith(("http://", "https://")):
        raise LoraryError(f"--upstream is {options.upstream!r}; give an address, such as http://127.0.0.1:8080")


def _in_front(options: Any, api_key: str | None, limits: Limits) -> Any:
    """The application of a router in front of an engine."""
    from lorary.model.composite import load_router
    from lorary.serving.access import is_local
    from lorary.serving.upstream import Upstream, make_upstream_app, read_naming

    router, _ = load_router(options.composite)
    key = options.upstream_key or os.environ.get("LORARY_UPSTREAM_KEY") or None
    upstream = Upstream(router, read_naming(options.memories, router.bank.names), options.upstream, limits, key)
    return make_upstream_app(upstream, api_key=api_key, local=is_local(options.host))


def _made(options: Any, api_key: str | None, limits: Limits) -> Any:
    """The application over a model."""
    from lorary.serving.access import is_local
    from lorary.serving.app import make_app
    from lorary.serving.asking import check_asks
    from lorary.serving.engine import Engine
    from lorary.serving.following import opened, settled
    from lorary.serving.keeping import Keeper
    from lorary.serving.learning import Learner
    from lorary.serving.routing import warm

    model, stamp = opened(Path(options.composite), lambda: _loaded(options))
    keeper = Keeper(model, options.composite, stamp)
    if options.bank is not None and (changed := keeper.take_up(options.bank, removing=False)):
        print(f"taken up from {options.bank}: {', '.join(changed)}", file=sys.stderr)
    settled(Path(options.composite), lambda: (keeper.follow(), warm(model)))
    asks = options.answers == "ask"
    if asks:
        check_asks(model)
    engine = Engine(model, limits, keeper.follow)
    engine.asks = asks
    learner = Learner(options.bank, engine.change, keeper.take_up) if options.bank is not None else None
    return make_app(engine, keeper, learner, api_key=api_key, local=is_local(options.host))


def _check_installed() -> None:
    """Tells what is missing before a model is loaded."""
    import fastapi  # noqa: F401
    import prometheus_client  # noqa: F401
    import uvicorn  # noqa: F401


def _loaded(options: Any) -> Any:
    from lorary.model.composite import load_composite
    from lorary.model.untrained import is_bare_bank, load_untrained

    if not is_bare_bank(options.composite):
        return load_composite(options.composite, **taken(options, "base", "dtype"))
    if options.dtype is not None:
        raise LoraryError("--dtype holds for a composite; train the router first, or leave it out")
    return load_untrained(options.composite, **taken(options, "base"))
