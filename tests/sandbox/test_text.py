"""The choke points for text: what may be stored, what may reach a terminal, what must never leave."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandbox.names import is_person_name
from sandbox.redaction import Redactor
from sandbox.text import is_blank, is_plain_name, kept, one_line, printable, storable

SPECIAL = "\x00\x07\x08\x1b\r\n\t\x7f\x85\x90\x9b\x9c\x9d\x9f\u200b\u202e\u2066\ufeff\ud800[]();?0mP]\\X^_"
anything = st.text(st.one_of(st.characters(codec=None), st.sampled_from(SPECIAL)), max_size=80)
ordinary = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs", "M"]) | st.sampled_from("\n\t")
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[38;2;1;2;3mred\x1b[?25l\x1b[2J\x1b[1;1H", "red"),
        ("a\x1b[31", "a31"),
        ("a\x1b", "a"),
        ("a\x1b\x1b[31mb", "ab"),
        ("a\x1bcb\x1b(Bc\x1b7d", "abcd"),
        ("a\x1b]52;c;c2VjcmV0\x07b", "ab"),
        ("a\x1b]52;c;c2VjcmV0\x1b\\b", "ab"),
        ("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
        ("a\x1b]0;title\nof two lines\x07b", "ab"),
        ("a\x1b]52;c;c2VjcmV0", "a"),
        ("a\x1bPq#0;2;0~\x1b\\b", "ab"),
        ("a\x1b_G f=100;AAAA\x1b\\b\x1b^x\x1b\\c\x1bXx\x1b\\d", "abcd"),
        ("a\x9b31mb\x9b0m", "ab"),
        ("a\x9d52;c;c2VjcmV0\x07b", "ab"),
        ("a\x9d52;c;c2VjcmV0\x9cb", "ab"),
        ("a\x9d52;c;c2VjcmV0\x1b\\b", "ab"),
        ("a\x90q#0\x9cb", "ab"),
        ("a\x84\x8d\x9c\x80b", "ab"),
        ("a\x08\x7f\x00\x07b", "ab"),
        ("over\rwritten", "overwritten"),
        ("safe\u202egnp.exe", "safegnp.exe"),
        ("\u2066a\u2069\u200eb\u200f\u061cc", "abc"),
        ("a\u200bb\u200c\u200d\u2060c\ufeff", "abc"),
        ("a\ud800b", "ab"),
        ("one\r\ntwo\n\tthree", "one\ntwo\n\tthree"),
        ("[red]not markup[/] [/INST] [@click=x]", "[red]not markup[/] [/INST] [@click=x]"),
    ],
)
def test_a_terminal_gets_the_words_and_no_commands(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_text_in_the_wrong_encoding_loses_no_words() -> None:
    """“quoted” read as Latin-1 or cp1252: the odd characters look like the start of an OSC."""
    for encoding in ("latin-1", "cp1252"):
        wrong = "He said “yes” and\nleft.".encode().decode(encoding, "ignore")
        shown = printable(wrong.replace("\u20ac", "\u20ac\x9d"))
        assert "yes" in shown
        assert shown.endswith(" and\nleft.")


@given(anything)
@example("\x9d\x9d\x1b]\x1b\\\x9c\x9b0")
def test_no_control_character_ever_reaches_a_terminal(text: str) -> None:
    shown = printable(text)
    shown.encode()  # no unpaired surrogates either
    for character in shown:
        assert unicodedata.category(character) != "Cc" or character in "\n\t"
        assert unicodedata.bidirectional(character) not in {
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        }  # fmt: skip
    assert printable(shown) == shown


@given(ordinary)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text
    assert storable(text) == text


@pytest.mark.parametrize(
    "piece", ["\x9d", "\x1b]", "\x1b[", "\x1b[0;", "\x9b0", "\x1b", "\x9d\x1b", "\x1bP\x1b", "\x1b("]
)
def test_hostile_text_takes_no_longer_than_other_text(piece: str) -> None:
    started = time.perf_counter()
    printable(piece * 100_000)
    assert time.perf_counter() - started < 2


@given(anything, st.integers(1, 40))
def test_one_line_is_one_line_of_the_width(text: str, width: int) -> None:
    line = one_line(text, width)
    assert len(line) <= width
    assert not set("\n\t\r") & set(line)
    assert "  " not in line


def test_one_line_is_shortened_with_an_ellipsis() -> None:
    assert one_line("one\n  two\tthree", 13) == "one two three"
    assert one_line("one two three", 12) == "one two thr…"
    assert one_line("one two three", 5) == "one…"  # no blank before the ellipsis
    assert one_line("\x1b[31mred\x1b[0m", 3) == "red"


@given(anything)
def test_what_is_stored_is_valid_and_otherwise_unchanged(text: str) -> None:
    stored = storable(text)
    stored.encode()
    assert "\0" not in stored
    assert len(stored) == len(text)
    bad = [a != b for a, b in zip(text, stored, strict=True)]
    assert bad == [c == "\0" or "\ud800" <= c <= "\udfff" for c in text]
    assert all(s == "\ufffd" for s, changed in zip(stored, bad, strict=True) if changed)


SECRET = "c4n4ry-Zx81"


@pytest.mark.parametrize(
    "text",
    [
        "401: Incorrect API key provided: sk-{}",
        "sk-proj-{}_abc, gsk_{}abcdef and hf_{}",
        "AIza{}{}",
        "Authorization: Bearer {}",
        "authorization: Basic {}=",
        "'Authorization': 'Bearer {}'",
        "GET https://host/v1/models?key={}&alt=json",
        "https://host/v1?api-key={}",
        '{{"api_key": "{}", "model": "x"}}',
        '{{"error": "{{\\"api_key\\": \\"{}\\"}}"}}',
        "OPENAI_API_KEY={}",
        "refresh_token={}; client_secret={}",
        "accessToken: {}",
        "x-goog-api-key: {}",
        "postgresql://me:{}@host:5432/db",
        "password = {}",
    ],
)
def test_what_looks_like_a_key_is_masked(text: str) -> None:
    masked = Redactor()(text.replace("{{", "{").replace("}}", "}").replace("{}", SECRET))
    assert SECRET not in masked
    assert "Zx81" not in masked
    assert "[redacted]" in masked


def test_what_surrounds_a_key_stays() -> None:
    redact = Redactor()
    assert redact("GET /v1?key=abcdef123&alt=json") == "GET /v1?key=[redacted]&alt=json"
    assert redact("postgresql://me:secret@host/db") == "postgresql://me:[redacted]@host/db"
    assert redact('{"api_key": "abcdef123", "n": 1}') == '{"api_key": "[redacted]", "n": 1}'
    assert redact("Bearer abcdef123 was refused") == "Bearer [redacted] was refused"


@pytest.mark.parametrize("password", ["a", "pass", "p&ss;wo,rd", 'p"a:s}s'])
def test_the_password_of_an_address_is_masked_whatever_it_is(password: str) -> None:
    assert Redactor()(f"postgresql://me:{password}@host/db") == "postgresql://me:[redacted]@host/db"


def test_known_secrets_are_masked_wherever_they_stand() -> None:
    redact = Redactor(["hunter2!", "hunter2!-and-more", "abc", ""])
    assert redact("x=hunter2!-and-more, hunter2!") == "x=[redacted], [redacted]"
    assert redact("(hunter2!)xhunter2!x") == "([redacted])x[redacted]x"
    assert redact("abc") == "abc"  # too short to be told from a word
    assert redact("api_key=hunter2!") == "api_key=[redacted]"


@given(st.text(max_size=60), st.text("abcXYZ019.*+$^|()[]\\-", min_size=6, max_size=20))
def test_a_known_secret_never_comes_through(text: str, secret: str) -> None:
    masked = Redactor([secret])(f"{text} {secret} {text}{secret}")
    assert secret not in masked.replace("[redacted]", " ")


@pytest.mark.parametrize(
    "text",
    [
        "The key to a good answer is patience.",
        "Keep the secret, and mind the token of friendship.",
        "Is it a risk-averse, task-oriented or sk-ish monkey=banana business?",
        "the bearer of bad news",
        "Set HF_HUB_OFFLINE=1 or see https://host:8080/path@version",
        "http://127.0.0.1:8000/v1/model took 300 tokens: 12 of 4096",
        "max_tokens=1024, prompt_tokens: 123456",
        "key: 7",
    ],
)
def test_ordinary_prose_is_not_masked(text: str) -> None:
    assert Redactor()(text) == text


BLANK = "\u00ad\u034f\u061c\u115f\u1160\u17b4\u180e\u200b\u200d\u200f\u202e\u2028\u2060\u206f\u2800\u3164"
BLANKS = [
    *BLANK,
    *"\ufe0f\ufeff\uffa0\ufff9\uffff\x00\x07\x85\t",
    "\U0001d173",
    "\U000e0001",
    "\U000e0041",
    "\U000e01ef",
]


@pytest.mark.parametrize("sign", BLANKS)
def test_what_has_no_ink_is_no_text(sign: str) -> None:
    assert is_blank(f" {sign}\n{sign}")
    assert kept(sign) == ""
    assert not is_blank(f"{sign}.{sign}")
    if sign != "\x00":
        assert kept(f"a{sign}b") == f"a{sign}b", "what is seen is kept with all that is in it"
    assert not is_person_name(f"Bo{sign}b")


@pytest.mark.parametrize(
    "text", ["a", "\u0301", "\u0600", "\U0001f469\u200d\U0001f680", "\ue000", "\ud800", "·"]
)
def test_what_has_ink_is_text(text: str) -> None:
    assert not is_blank(text)


@given(anything)
def test_blank_is_what_reaches_nobodys_eye(text: str) -> None:
    assert is_blank(text) == all(is_blank(sign) for sign in text)
    if not text.strip():
        assert is_blank(text)
    if is_plain_name(text):
        assert not set(text) & set("\u202e\u3164\u2800\n\x1b\u200b")


@pytest.mark.parametrize(
    "name", ["Bücher 村", "\U0001f469\u200d\U0001f680", "می\u200cخواهم", "\u2764\ufe0f", "O'Neil"]
)
def test_joiners_are_at_home_in_names(name: str) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize("name", ["", " ", "\u3164", "a\u202eb", "a\u3164b", "a\nb", "a\U000e0041"])
def test_a_name_shows_all_of_itself(name: str) -> None:
    assert not is_plain_name(name)
