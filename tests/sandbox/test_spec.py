"""Model specs, and prompts that are made to fit."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import ContextOverflow, SocietyError
from sandbox.exchange import ChatMessage
from sandbox.models.context import MARK, trim
from sandbox.models.spec import Spec, parse


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("local/smollm2", Spec("local", "smollm2")),
        ("local/org/name", Spec("local", "org/name")),
        ("local//models/a b", Spec("local", "/models/a b")),
        ("local/org/name#kind-2.1_b", Spec("local", "org/name", adapter="kind-2.1_b")),
        ("litellm/openai/gpt-4o-mini", Spec("litellm", "openai/gpt-4o-mini")),
        ("litellm/openrouter/org/model:free", Spec("litellm", "openrouter/org/model:free")),
        ("scripted/steady", Spec("scripted", "steady")),
        ("scripted/kind?rate=1&fail=", Spec("scripted", "kind", options=(("rate", "1"), ("fail", "")))),
        (
            "openai/http://127.0.0.1:8000/v1/my-model",
            Spec("openai", "my-model", base="http://127.0.0.1:8000/v1"),
        ),
        ("openai/https://host/v1/org/model", Spec("openai", "org/model", base="https://host/v1")),
        ("openai/https://host/api/v1/m", Spec("openai", "m", base="https://host/api/v1")),
        ("openai/http://host/api/m", Spec("openai", "m", base="http://host/api")),
        ("openai/http://[::1]:8000/v1/m", Spec("openai", "m", base="http://[::1]:8000/v1")),
        (
            "openai/http://host/v1/m?context=4096&structured=1",
            Spec("openai", "m", base="http://host/v1", options=(("context", "4096"), ("structured", "1"))),
        ),
    ],
)
def test_every_family_is_read(text: str, spec: Spec) -> None:
    assert parse(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gpt-4",
        "/",
        "local",
        "local/",
        "local//",
        "Local/x",
        "azure/x/y",
        "scripted/",
        "litellm/",
        " local/smollm2",
    ],
)
def test_what_is_no_spec_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(SocietyError, match="is not a model") as caught:
        parse(text)
    assert all(form in str(caught.value) for form in ("local/", "litellm/", "openai/", "scripted/"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("litellm/gpt-4", "names no provider"),
        ("litellm/openai/", "names no provider and model"),
        ("litellm//gpt-4", "names no provider"),
        ("local/#kind", "names no base model"),
        ("openai/my-model", "is not an endpoint"),
        ("openai/http://host", "is not an endpoint"),
        ("openai/http://host/v1/", "is not an endpoint"),
        ("openai/http:///v1/m", "is not an endpoint"),
        ("openai/http://[::1/v1/m", "is not an endpoint"),
        ("openai/file://host/v1/m", "is not an endpoint"),
        ("openai/gopher://host/v1/m", "is not an endpoint"),
        ("scripted/?rate=1", "names no script"),
        ("scripted/steady?latency", "options of"),
        ("openai/http://host/v1/m?a=1&b", "options of"),
    ],
)
def test_a_spec_that_lacks_something_is_refused(text: str, said: str) -> None:
    with pytest.raises(SocietyError, match=said):
        parse(text)


@pytest.mark.parametrize(
    "adapter",
    [
        "..",
        "../x",
        "a/../../x",
        "/etc/x",
        "a/b",
        "a\\b",
        ".hidden",
        "-rf",
        "a b",
        "a\n",
        "a\0",
        "",
        "a#b",
        "x" * 101,
    ],
)
def test_an_adapter_is_a_name_and_no_path(adapter: str) -> None:
    with pytest.raises(SocietyError, match="is not an adapter's name"):
        parse(f"local/smollm2#{adapter}")


@pytest.mark.parametrize(
    "text",
    [
        "openai/https://me:c4n4ry@host/v1/m",
        "openai/https://c4n4ry@host/v1/m",
        "openai/https://:c4n4ry@host/v1/m",
        "openai/https://host/v1/m?api_key=c4n4ry",
        "openai/https://host/v1/m?context=1&KEY=c4n4ry",
        "openai/https://host/v1/m?token=c4n4ry",
    ],
)
def test_a_key_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SocietyError, match="Keep keys out") as caught:
        parse(text)
    assert "c4n4ry" not in str(caught.value)


@given(
    st.sampled_from(["", "local/", "litellm/", "scripted/", "openai/", "openai/http://"]),
    st.text(max_size=40),
)
def test_any_text_is_a_spec_or_a_clear_error(lead: str, text: str) -> None:
    with suppress(SocietyError):
        spec = parse(lead + text)
        assert spec.name
        assert lead.startswith(spec.family) or not lead


def count(messages: Sequence[ChatMessage]) -> int:
    """A token for every four characters, and three for every message."""
    return sum(len(message.content) // 4 + 3 for message in messages)


def dialogue(*lengths: int) -> list[ChatMessage]:
    """A system message, exchanges, and a last question, of so many characters each."""
    roles = ["system", *(["user", "assistant"] * len(lengths))]
    return [ChatMessage(roles[i], chr(97 + i) * n) for i, n in enumerate(lengths)]  # type: ignore[arg-type]


def test_a_prompt_that_fits_is_left_alone() -> None:
    messages = dialogue(40, 400)
    assert trim(messages, count(messages), count) == (tuple(messages), 0)


def test_the_oldest_exchanges_go_first() -> None:
    messages = dialogue(40, 400, 400, 400, 400, 400)
    kept, gone = trim(messages, count(messages) - 1, count)
    assert kept == (messages[0], *messages[3:])
    assert gone == count(messages[1:3])
    kept, _ = trim(messages, count([messages[0], messages[5]]), count)
    assert kept == (messages[0], messages[5])


def test_a_talk_of_thousands_is_counted_a_few_times() -> None:
    messages = dialogue(40, *[4] * 5001)
    counted: list[int] = []

    def counting(some: Sequence[ChatMessage]) -> int:
        counted.append(len(some))
        return count(some)

    kept, gone = trim(messages, count(messages) - count(messages[1:5001]), counting)
    assert kept == (messages[0], *messages[5001:])
    assert gone == count(messages) - count(kept)
    assert len(counted) < 20


def test_what_stood_around_an_exchange_may_be_the_next() -> None:
    roles = ("user", "user", "assistant", "user", "assistant", "assistant", "user")
    messages = [ChatMessage(role, str(place)) for place, role in enumerate(roles)]  # type: ignore[arg-type]
    left = [[message.content for message in trim(messages, limit, len)[0]] for limit in (5, 3, 1)]
    assert left == [["0", "3", "4", "5", "6"], ["0", "5", "6"], ["6"]]


def test_the_longest_message_loses_its_middle() -> None:
    question = "".join(f"<{n}>" for n in range(1000))
    messages = [ChatMessage("system", "Be brief."), ChatMessage("user", question)]
    kept, gone = trim(messages, 300, count)
    head, tail = kept[1].content.split(MARK)
    assert kept[0] == messages[0]
    assert question.startswith(head)
    assert question.endswith(tail)
    assert len(head) > len(tail) > 200
    assert 250 < count(kept) <= 300
    assert gone == count(messages) - count(kept)


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=8), st.integers(-5, 1500))
def test_a_prompt_is_made_to_fit_or_refused(lengths: list[int], limit: int) -> None:
    messages = dialogue(*lengths)
    before = list(messages)
    try:
        kept, gone = trim(messages, limit, count)
    except ContextOverflow as error:
        said = str(error)
        assert f"takes {count(messages)} tokens and can't be cut to the {limit}" in said
        assert limit < count(dialogue(*[min(n, 200) for n in lengths]))
        return
    assert count(kept) <= limit
    assert gone == count(messages) - count(kept)
    assert (kept, gone) == trim(messages, limit, count)
    assert kept[-1].role == messages[-1].role
    assert messages == before


def test_a_prompt_that_can_not_be_cut_is_refused_with_a_remedy() -> None:
    with pytest.raises(ContextOverflow, match=r"takes 28 tokens and can't be cut to the 10 .*larger window"):
        trim(dialogue(100), 10, count)
