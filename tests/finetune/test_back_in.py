"""An adapter back in the society: seated beside its base twin, swapped in while it runs, and traced."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from jobs import Jobs
from support import engine_for, events_of, small_society

from finetune import adapters, training
from sandbox import events as ev
from sandbox.models.catalog import Catalog
from sandbox.progress import fold
from sandbox.redaction import Redactor
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.society import Agent, Lengths, Limits
from sandbox.store import lineage, sessions

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture
def trained(jobs: Jobs) -> Any:
    """An adapter that says something else than its base."""
    import tiny

    job = jobs.job("kind", [tiny.group(n) for n in range(8)], epochs=4, learning_rate=5e-2)
    return job, training.train(job)


async def test_an_adapter_speaks_beside_its_base_twin_and_is_swapped_in(
    jobs: Jobs, trained: Any, sqlite_store: Store
) -> None:
    job, card = trained
    store = sqlite_store
    lineage.add_dataset(store.database, "kind-data", "/x", card.lineage.digest, "{}", [])
    lineage.add_adapter(
        store.database, "kind", card.base, str(job.out), card.model_dump_json(), card.lineage.digest
    )
    base = f"local/{jobs.base}"
    agents = tuple(
        Agent(name=name, place=place, model=model, rating_model="scripted/steady")
        for place, (name, model) in enumerate(
            [
                ("Base", base),
                ("Tuned", f"{base}#kind"),
                ("Peer", "scripted/kind"),
                ("Other", "scripted/steady"),
            ]
        )
    )
    society = small_society(
        agents=agents, rounds=1, memories=(), lengths=Lengths(answer_tokens=12, temperature=0), observers=()
    )
    settings = Settings(
        data_dir=jobs.folder,
        adapters=jobs.folder / "adapters",
        cache_dir=jobs.folder,
        device="cpu",
        dtype="float32",
    )
    catalog = Catalog(settings, Limits(), Redactor())
    handle = sessions.create(store.database, store.log, society)
    try:
        await engine_for(store, handle, catalog.model).run()
        said = []
        for model in (None, f"{base}#kind", base):  # its own, swapped, and rolled back
            if model:
                store.log.append_now(handle, [ev.SeatChanged(seat="Base", model=model)])
            engine = engine_for(store, handle, catalog.model)
            number = await engine.ask("Is it right?", "Base", society=False)
            events = await asyncio.to_thread(events_of, store, handle.key)
            said += [e.text for e in events if isinstance(e, ev.MessagePosted) and e.interaction == number]
    finally:
        await catalog.close()
    assert fold(events_of(store, handle.key)).status == "finished"
    assert said[0] == said[2] != said[1]
    served = {
        (service.session, service.seat): service.calls for service in lineage.services(store.database, "kind")
    }
    assert served == {(handle.key, "Tuned"): 2, (handle.key, "Base"): 1}


def test_a_card_names_all_that_it_came_from(trained: Any) -> None:
    job, card = trained
    kept = json.loads((job.out / "card.json").read_text())
    assert kept["base_weights"]
    assert kept["base_tokenizer"]
    assert kept["lineage"]["digest"] == job.dataset.card.digest
    assert kept["options"]["method"] == "stable-alignment"
    readme = (job.out / "README.md").read_text()
    for part in (job.dataset.card.digest[:12], kept["base_weights"][:12], "local/", "8 groups"):
        assert part in readme
    assert adapters.read_card(job.out) == card


def test_a_half_written_adapter_is_no_adapter(
    jobs: Jobs, trained: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What fails while an adapter is saved leaves no folder behind, and no other one touched."""
    _, card = trained

    class Half:
        def save_pretrained(self, folder: Path, **_: Any) -> None:
            (folder / "adapter_model.safetensors").write_bytes(b"half")
            raise OSError("no space left on device")

    place = tmp_path / "adapters" / "half"
    with pytest.raises(OSError, match="no space"):
        adapters.save(place, Half(), card)
    assert not place.exists()
    assert not [p for p in place.parent.iterdir() if p.name.startswith(".half")]
