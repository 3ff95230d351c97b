"""Requests made up from the published description: each is answered as it says, and none is a fault."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from serving import app_in, create, serve, wait_for

EXAMPLES = 12
HELD = ("/api/v1/keys/{key}", "/api/v1/sessions/{session}")
"""Deleting these by chance would leave nothing to ask about."""
SEATS = ("A1", "A2", "B1", "B2", "observer", "guest", "", "!!", "x" * 200, "\x00")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(app_in(tmp_path_factory.mktemp("openapi"), command_timeout_s=5.0)) as url:
        yield url


@pytest.fixture(scope="module")
def session(base: str) -> str:
    """A small society that has run a round, with somebody at a seat."""
    with httpx.Client(base_url=base, timeout=30) as client:
        session = create(client, seats="2x2", rounds=1)
        client.post(f"/api/v1/sessions/{session}/start").raise_for_status()
        wait_for(lambda: client.get(f"/api/v1/sessions/{session}").json()["status"] == "finished")
        client.post(f"/api/v1/sessions/{session}/messages", json={"text": "Hello"}).raise_for_status()
    return session


def operations(base: str) -> list[Any]:
    schema = schemathesis.openapi.from_url(f"{base}/openapi.json")
    found = [operation.ok() for operation in schema.exclude(path_regex="^/v1/").get_all_operations()]
    kept = [op for op in found if op.method != "delete" or op.path not in HELD]
    return [op for op in kept if "{session}" not in op.path or not op.path.endswith("/export")]


def asked(operation: Any, session: str, mode: GenerationMode, check: Any) -> None:
    """Have ``check`` called with some requests of an operation."""
    strategy = operation.as_strategy(generation_mode=mode)

    @seed(7)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, kept=st.booleans(), seat=st.sampled_from(SEATS))
    def run(case: Any, kept: bool, seat: str) -> None:
        if "session" in (case.path_parameters or {}):
            case.path_parameters["session"] = session
        if kept and "seat" in (case.path_parameters or {}):
            case.path_parameters["seat"] = seat
        check(case)

    with suppress(Unsatisfiable):  # what takes no parameters can't be asked wrongly
        run()


@pytest.mark.timeout(200)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_every_made_up_request_is_answered_as_described(
    base: str, session: str, mode: GenerationMode, caplog: pytest.LogCaptureFixture
) -> None:
    random.seed(7)
    codes: Counter[int] = Counter()
    taken: set[str] = set()

    def check(case: Any) -> None:
        response = case.call(timeout=60)
        codes[response.status_code] += 1
        if response.status_code < 400:
            taken.add(f"{case.method} {case.operation.path}")
        if response.status_code not in (502, 503) or "database" in response.text:
            case.validate_response(
                response,
                checks=[not_a_server_error, response_schema_conformance, content_type_conformance],
            )
        if response.status_code >= 400 and "application/json" in response.headers["content-type"][0]:
            error = response.json()["error"]
            assert set(error) == {"code", "message"}, response.text
            assert isinstance(error["message"], str)

    found = operations(base)
    assert len(found) > 35
    for operation in found:
        asked(operation, session, mode, check)
    assert sum(codes.values()) > 4 * len(found), codes
    assert codes[422] > 0
    if mode is GenerationMode.POSITIVE:
        assert len(taken) > 25, "most are taken, or this shows little"
    assert httpx.get(f"{base}/readyz").status_code == 200
    assert httpx.get(f"{base}/api/v1/sessions/{session}/snapshot").status_code == 200
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_the_description_says_how_errors_look(base: str) -> None:
    described = httpx.get(f"{base}/openapi.json").json()
    for path, item in described["paths"].items():
        for method, operation in item.items():
            for code, answer in operation["responses"].items():
                if path.startswith("/api/") and code.startswith("4"):
                    shape = str(answer["content"]["application/json"]["schema"])
                    assert "HTTPValidationError" not in shape, (method, path, code)


def test_a_description_is_to_be_had_without_a_key_and_names_no_secret(base: str) -> None:
    text = httpx.get(f"{base}/openapi.json").text
    assert "sbx_" not in text
    page = httpx.get(f"{base}/docs")
    assert page.status_code == 200
    assert "https://" not in page.text, "the page of calls needs no network"
