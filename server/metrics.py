"""What Prometheus reads: sessions, sockets, queues, calls, tokens, cost and latencies of this process."""

from __future__ import annotations

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sandbox import events as ev
from server.hub import Hub
from server.runs import Runs

_STEPS = get_args(ev.Step)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The process's own registry; nothing global."""

    def __init__(self, hub: Hub, runs: Runs) -> None:
        self._hub = hub
        self._runs = runs
        self.registry = CollectorRegistry()
        self._open = Gauge("sandbox_sessions_open", "Sessions this process owns", registry=self.registry)
        self._running = Gauge("sandbox_sessions_running", "Of those, running", registry=self.registry)
        self._sockets = Gauge("sandbox_sockets", "Open websockets", registry=self.registry)
        self._dropped = Counter(
            "sandbox_sockets_dropped", "Websockets closed for reading too slowly", registry=self.registry
        )
        self._events = Counter("sandbox_events", "Events committed here", ["type"], registry=self.registry)
        self._calls = Counter(
            "sandbox_model_calls", "Model calls on record", ["model"], registry=self.registry
        )
        self._failures = Counter(
            "sandbox_model_failures", "Failed turns on record", ["error"], registry=self.registry
        )
        self._tokens = Counter(
            "sandbox_tokens", "Tokens on record", ["model", "kind"], registry=self.registry
        )
        self._cost = Counter(
            "sandbox_cost_usd", "Cost on record, US dollars", ["model"], registry=self.registry
        )
        self._latency = Histogram(
            "sandbox_model_seconds",
            "Latency of model calls on record",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.requests = Counter(
            "sandbox_http_requests", "HTTP requests", ["route", "method", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "sandbox_http_seconds",
            "Time to the response's start",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._seen_drops = 0

    def take(self, recorded: ev.Recorded) -> None:
        """Count an event that was committed here."""
        event = recorded.event
        self._events.labels(event.type).inc()
        if isinstance(event, ev.TurnFailed):
            self._failures.labels(event.error).inc()
        if isinstance(event, _STEPS) and (usage := event.usage):
            self._calls.labels(usage.model).inc()
            self._tokens.labels(usage.model, "prompt").inc(usage.prompt_tokens)
            self._tokens.labels(usage.model, "completion").inc(usage.completion_tokens)
            self._cost.labels(usage.model).inc(usage.cost)
            self._latency.labels(usage.model).observe(usage.latency_ms / 1000)

    def render(self) -> bytes:
        """All of it, in Prometheus' text format."""
        runs = self._runs.here.values()
        self._open.set(len(runs))
        self._running.set(sum(run.is_running for run in runs))
        self._sockets.set(sum(len(channel.listeners) for channel in self._hub.channels()))
        drops = self._hub.dropped.total()
        self._dropped.inc(drops - self._seen_drops)
        self._seen_drops = drops
        return generate_latest(self.registry)
