"""Spec string → model, with the wrappers its family needs. One model, worker or connection a name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sandbox.errors import SocietyError
from sandbox.exchange import Request
from sandbox.models.base import Model
from sandbox.models.limits import Gate, Ledger, Limited, Paced, Paid, Retrying
from sandbox.models.scripted import ScriptedModel
from sandbox.models.spec import Spec, parse
from sandbox.redaction import Redactor
from sandbox.settings import Settings
from sandbox.society import Limits

if TYPE_CHECKING:
    from sandbox.models.direct import HttpSessions
    from sandbox.models.local import LocalWorker


def require_adapters(settings: Settings, specs: Iterable[str]) -> None:
    """Raise ``SocietyError`` for a spec that names an adapter whose files are not there."""
    for spec in map(parse, specs):
        folder = settings.adapters_dir / spec.adapter
        if spec.adapter and not (folder / "adapter_config.json").is_file():
            raise SocietyError(
                f"There is no adapter '{spec.adapter}' in {settings.adapters_dir}. See sandbox adapters "
                "list, or train one: sandbox train DATASET --base MODEL"
            )


class Workers:
    """The local models of one process: one copy of the weights a name, whoever uses them.

    ``on_load`` is called, in any thread, with the name of a model that is about to be loaded.
    """

    def __init__(self, settings: Settings, on_load: Callable[[str], None] | None = None) -> None:
        self._settings = settings
        self._on_load = on_load
        self._workers: dict[str, LocalWorker] = {}

    def of(self, name: str) -> LocalWorker:
        """The worker that owns the model ``name``; it loads the weights with the first request."""
        from sandbox.models.local import LocalWorker

        if name not in self._workers:
            self._workers[name] = LocalWorker(
                name,
                self._settings.cache_dir,
                self._settings.adapters_dir,
                max_batch=self._settings.max_batch,
                device=self._settings.device,
                dtype=self._settings.dtype,
                on_load=self._on_load,
            )
        return self._workers[name]

    async def close(self) -> None:
        """End after the current batches, and let the weights go."""
        for worker in self._workers.values():
            await asyncio.to_thread(worker.close)


class Catalog:
    """The models of one session. Usable inside one event loop; ``close`` frees what is its own.

    ``workers`` are its local models, if it shares them with others; else ``on_load`` is told of loading.
    """

    def __init__(
        self,
        settings: Settings,
        limits: Limits,
        redact: Redactor,
        *,
        ledger: Ledger | None = None,
        workers: Workers | None = None,
        on_load: Callable[[str], None] | None = None,
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._redact = redact
        self._ledger = ledger or Ledger(limits.budget)
        self._shared = workers is not None
        self._workers = workers or Workers(settings, on_load)
        self._models: dict[str, Model] = {}
        self._gates: dict[str, Gate] = {}
        self._http: HttpSessions | None = None

    def model(self, spec: str) -> Model:
        """The model that ``spec`` names; the same object for the same spec. Raises ``SocietyError``."""
        if spec not in self._models:
            self._models[spec] = self._make(parse(spec))
        return self._models[spec]

    async def close(self) -> None:
        """Free everything."""
        if not self._shared:
            await self._workers.close()
        if self._http is not None:
            await self._http.close()

    def _make(self, spec: Spec) -> Model:
        match spec.family:
            case "scripted":
                return Paid(ScriptedModel(spec.name, dict(spec.options)))
            case "local":
                return self._local(spec)
            case "openai":
                return self._direct(spec)
            case "litellm":
                return self._litellm(spec)

    def _local(self, spec: Spec) -> Model:
        from sandbox.models.local import LocalModel

        return Paid(LocalModel(self._workers.of(spec.name), spec.adapter))

    def _direct(self, spec: Spec) -> Model:
        from sandbox.models.direct import DirectModel, HttpSessions

        self._http = self._http or HttpSessions(None)
        key = self._settings.openai_key if self._settings.trusts(spec.base) else None
        model = DirectModel(
            spec.base,
            spec.name,
            self._http,
            self._redact,
            key=key.get_secret_value() if key else None,
            options=dict(spec.options),
        )
        return self._bounded(model, spec.base)

    def _litellm(self, spec: Spec) -> Model:
        from sandbox.models.remote import LiteLLMModel

        model = LiteLLMModel(spec.name, self._redact)
        return self._bounded(model, spec.name.partition("/")[0], model.estimate)

    def _bounded(
        self, model: Model, provider: str, estimate: Callable[[Request], float] | None = None
    ) -> Model:
        """A slot for the request with its retries, then its payment, then the tries, each in its turn."""
        limits = self._limits
        gate = self._gates.setdefault(provider, Gate(limits.per_provider, limits.requests_per_minute))
        bounded: Model = Retrying(Paced(model, gate), attempts=limits.attempts, timeout_s=limits.timeout_s)
        return Limited(Paid(bounded, estimate, self._ledger if estimate else None), gate)
