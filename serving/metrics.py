"""Metrics: what a server has done, as Prometheus reads it. No text of a request stands in them, and no name of a memory."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lorary.routing.policy import Route

_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The figures of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "lorary_requests", "Requests, by endpoint and HTTP status", ["endpoint", "status"], registry=registry
        )
        self.in_progress = Gauge(
            "lorary_requests_in_progress", "Requests whose reply has not been sent whole", registry=registry
        )
        self.routes = Counter("lorary_routes", "Requests, by what decided their route", ["source"], registry=registry)
        self.refused = Counter("lorary_refused", "Requests that found the queue full", registry=registry)
        self.prompt_tokens = Counter("lorary_prompt_tokens", "Tokens of prompts", registry=registry)
        self.tokens = Counter("lorary_answer_tokens", "Tokens of answers", registry=registry)
        self.running = Gauge("lorary_rows_running", "Answers that are written now", registry=registry)
        self.waiting = Gauge("lorary_rows_waiting", "Answers that wait for a row", registry=registry)
        self.first_token = Histogram(
            "lorary_first_token_seconds",
            "From a request to the first token of each of its choices",
            buckets=_SECONDS,
            registry=registry,
        )
        self.seconds = Histogram(
            "lorary_request_seconds", "From a request to the end of its reply", buckets=_SECONDS, registry=registry
        )

    def routed(self, route: Route, prompt_tokens: int) -> None:
        """Counts a request that has its route."""
        self.routes.labels(route.source).inc()
        self.prompt_tokens.inc(prompt_tokens)

    def text(self) -> bytes:
        """All figures, as Prometheus reads them."""
        return generate_latest(self.registry)
