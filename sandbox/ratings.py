"""Reads a rating out of what a rater wrote: a text reply, a JSON reply or a distribution over values.

Pure: knows the scale and the words raters use in several languages, but no prompt, model, criterion or
store. It does not know what was rated, so a reply that rates several things is ``ambiguous``; it never
rescales and never guesses. An ``Unparsed`` is missing data, a wrong value would be a false rating.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sandbox import rating_words as words
from sandbox.rubric import Scale
from sandbox.text import is_blank

Method = Literal["text", "structured", "likelihood", "human"]
UnparsedReason = Literal[
    "empty",
    "refusal",
    "no_number",
    "ambiguous",
    "out_of_range",
    "other_scale",
    "thinking_only",
    "malformed",
    "withdrawn",
]
"""Why there is no value; ``withdrawn``: the person who gave it took it back for good."""

_LONGEST_READ = 20_000
_LONGEST_REASON = 2_000


@dataclass(frozen=True, slots=True)
class Rating:
    """A value on the scale; ``distribution`` holds (scale value, probability) for likelihoods only."""

    value: float
    reason: str
    method: Method
    distribution: tuple[tuple[int, float], ...] | None = None


@dataclass(frozen=True, slots=True)
class Unparsed:
    """A reply without a rating that can be read with confidence, and why."""

    why: UnparsedReason
    reason: str
    method: Method


class _Field(NamedTuple):
    head: int  # where the words about its label begin
    start: int
    end: int
    result: float | UnparsedReason
    label: str
    subject: str
    remark: bool
    quoted: bool
    reason_at: int  # where the comment that holds it begins, or -1


def read_rating(text: str, scale: Scale) -> Rating | Unparsed:
    """The rating of a free-text reply: its final labelled field, else its only clear verdict."""
    text = (text or "").strip()
    quick = words.QUICK.match(text) if text.isascii() else None
    if quick:
        value, after = int(quick["last"] or quick["first"]), quick["after"] or ""
        if scale.holds(value) and not words.LABELLED.search(after):
            return Rating(float(value), _tidy(quick["before"] or after), "text")
    visible = words.INVISIBLE.sub("", text).strip()
    if is_blank(visible):
        return Unparsed("empty", "", "text")
    body = unicodedata.normalize("NFC", _answer(visible)[-_LONGEST_READ:])
    if not body.strip():
        return Unparsed("thinking_only", "", "text")
    embedded = _embedded(body, scale)
    if embedded:
        return embedded
    view = _plain(body, scale)
    fields = _fields(view, body, scale)
    result = _verdict(fields, view, scale) if fields else _unlabelled(view, scale)
    field = fields[-1] if fields else None
    if isinstance(result, str):
        return Unparsed(result, _reason(body, view, field, labelled=True), "text")
    bare = None if fields else words.BARE.match(view)
    alone = bare is not None and words.ALL_DONE.match(view, bare.end())
    return Rating(result, "" if alone else _reason(body, view, field), "text")


def read_structured(text: str, scale: Scale) -> Rating | Unparsed:
    """The rating of a reply that had to be JSON; anything else is malformed, however readable."""
    if not text or is_blank(text):
        return Unparsed("empty", "", "structured")
    data = _load(text)
    if data is None:
        answer = _answer(text).strip()
        if not answer:
            return Unparsed("thinking_only", "", "structured")
        data = _load(answer.removeprefix("```json").removeprefix("```").removesuffix("```"))
    return _from_object(data or {}, scale, "structured")


def from_distribution(
    probabilities: Mapping[int, float], scale: Scale, reason: str = ""
) -> Rating | Unparsed:
    """The mean of a distribution over the scale's values, after leaving out every other value."""
    shares = [probabilities.get(value, 0.0) for value in scale.values]
    if any(not math.isfinite(share) or share < 0 for share in probabilities.values()) or max(shares) <= 0:
        return Unparsed("malformed", _tidy(reason), "likelihood")
    # Divided by the largest first, so that neither huge nor tiny weights leave the floats.
    shares = [share / max(shares) for share in shares]
    shares = [share / math.fsum(shares) for share in shares]
    mean = math.fsum(value * share for value, share in zip(scale.values, shares, strict=True))
    value = min(max(round(mean, 4), float(scale.low)), float(scale.high))
    rounded = tuple((value, round(share, 6)) for value, share in zip(scale.values, shares, strict=True))
    return Rating(value, _tidy(reason), "likelihood", rounded)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)


def _load(text: str) -> dict[str, object] | None:
    try:
        data = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _from_object(data: dict[str, object], scale: Scale, method: Method) -> Rating | Unparsed:
    value, reason = data.get("rating"), data.get("reason")
    comment = _tidy(reason) if isinstance(reason, str) else ""
    if "rating" in data and value is None:
        return Unparsed("no_number", comment, method)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Unparsed("malformed", comment, method)
    if scale.holds(value):
        return Rating(float(value), comment, method)
    # Only floats: a whole number may be too large to become one.
    broken = isinstance(value, float) and not math.isfinite(value)
    return Unparsed("malformed" if broken else "out_of_range", comment, method)


def _embedded(body: str, scale: Scale) -> Rating | Unparsed | None:
    """What the JSON object in a text reply says, if nothing around it could say otherwise."""
    start, end = body.find("{"), body.rfind("}") + 1
    data = _load(body[start:end]) if 0 <= start < end else None
    around = body[:start] + "\n" + body[end:]
    if not data or not isinstance(data.get("rating"), int | float) or re.search(r"\d", around):
        return None
    return None if words.FIELD.search(around) else _from_object(data, scale, "text")


def _answer(text: str) -> str:
    """``text`` without its reasoning; a lone closing tag ends reasoning that the prompt had opened."""
    kept: list[str] = []
    depth = at = 0
    for tag in words.THINK.finditer(text):
        if not (tag[1] or tag[2]):
            kept.append(text[at : tag.start()] if depth == 0 else "")
            depth += 1
            continue
        if depth == 0:
            kept.clear()
        depth, at = max(depth - 1, 0), tag.end()
    return "".join(kept) + (text[at:] if depth == 0 else "")


def _plain(body: str, scale: Scale) -> str:
    """``body`` for matching, of the same length: no emphasis, ASCII digits, the scale's own bounds blank."""
    if "<" in body:
        body = re.sub(r"<([\d.,/ ]{1,12})>", r" \1 ", body)
        body = re.sub(r"<([a-z_]{1,20})>", r" \1:", body, flags=words.ANY_CASE)
        body = re.sub(r"</[a-z_]{1,20}>", lambda tag: " " * len(tag[0]), body, flags=words.ANY_CASE)
    view = body.translate(words.PLAIN)
    if not view.isascii():
        # Superscripts and circled digits are no decimals, so they stay what they are.
        digits = {ord(c): str(unicodedata.decimal(c)) for c in set(view) if not c.isascii() and c.isdecimal()}
        view = view.translate(digits)

    def blank(part: re.Match[str]) -> str:
        low, top = part["low"], part["top"]
        if _number(top) != scale.high or (low and _number(low) != scale.low):
            return part[0]
        return part[0].replace(part["drop"], " " * len(part["drop"]))

    # An apostrophe inside a word stays; a quotation mark goes.
    view = re.sub(r"(?<![^\W\d_])'|'(?![^\W\d_])", " ", view)
    for pattern in words.SCALE_PARTS:
        view = pattern.sub(blank, view)
    return view


def _number(token: str) -> int | None:
    return int(token) if token.isdecimal() and str(int(token)) == token else words.NUMBERS.get(token.lower())


def _value(token: str, scale: Scale) -> float | UnparsedReason:
    """What a number means on ``scale``: words only up to ten, no leading zeros, no groups of thousands."""
    named = words.NUMBERS.get(token.lower())
    if named is not None:
        value = float(named) if scale.high <= 10 else math.nan
    else:
        whole, _, fraction = token.replace(",", ".").partition(".")
        if len(fraction) == 3 or re.match(r"-?0[0-9]", whole):
            return "ambiguous"
        value = float(f"{whole}.{fraction or 0}")
    if math.isnan(value):
        return "ambiguous"
    return value if scale.holds(value) and not token.startswith("-") else "out_of_range"


def _judge(
    view: str, match: re.Match[str], scale: Scale, closed: re.Pattern[str] = words.CLOSED
) -> float | UnparsedReason:
    """The number of ``match``, if what follows it (``closed``) lets it stand for itself."""
    end, token = match.end("value"), match["value"]
    if token is None:
        return "no_number"
    if view[end : end + 1].isnumeric() or words.UNCLEAR.match(view, end):
        return "ambiguous"
    if words.FOREIGN.match(view, end):
        return "other_scale"
    stars = words.STARS.match(view, end)
    if stars and scale.high != 5:
        return "other_scale"
    if not closed.match(view, stars.end() if stars else end):
        return "ambiguous"
    return _value(token, scale)


def _field(match: re.Match[str], view: str, body: str, scale: Scale) -> _Field | None:
    start, end = match.span()
    line = view.rfind("\n", 0, start) + 1
    clause = re.split("[.;,。]", view[max(line, start - 40) : start])[-1]
    about, remark, broken = match["about"] or "", match["remark"] is not None, match["newline"]
    heading = broken is not None and not re.search("[:=]", broken)
    result = _judge(
        view, match, scale, words.LINE_DONE if broken else words.ENDED if remark else words.CLOSED
    )
    # In running prose such a label is followed by anything; then it is no field at all.
    unread = result == "no_number" or (result == "ambiguous" and not words.UNCLEAR.match(view, end))
    prose = (about or remark or heading) and unread
    if prose or words.NOT_MINE.search(clause):
        return None
    stop = view.find("\n", end)
    seen = min(end + 60, stop % (len(view) + 1))
    if (result == "out_of_range" or not isinstance(result, str)) and words.OTHER_SCALE.search(
        view, start, seen
    ):
        result = "other_scale"
    quotes = (
        [body[at : at + 1] in words.QUOTES for at in (start - 1, match.end("label"), end)]
        if start
        else [False]
    )
    reason = words.REASON.search(view, max(line, start - 400), start)
    # "Note: 1." opens a list of remarks as often as it rates.
    opens_list = remark and match["value"] == "1" and not words.LINE_DONE.match(view, end)
    if opens_list or (match["loose"] and words.NEUTRAL.sub("", about) and not isinstance(result, str)):
        result = "ambiguous"
    item = words.LISTED.match(view, line, start)
    subject = (item[0] if item else "") + words.NEUTRAL.sub("", clause + about).lower()
    quoted = quotes == [True, False, True]
    label, reason_at = match["label"].lower(), reason.start() if reason else -1
    return _Field(start - len(clause), start, end, result, label, subject, remark, quoted, reason_at)


def _fields(view: str, body: str, scale: Scale) -> list[_Field]:
    """The labelled fields in order, the final one last; a remark ("Note: 5") only if it is all there is."""
    found = [field for match in words.FIELD.finditer(view) if (field := _field(match, view, body, scale))]
    remarks = [field for field in found if field.remark]
    return remarks + [field for field in found if not field.remark]


def _verdict(fields: list[_Field], view: str, scale: Scale) -> float | UnparsedReason:
    """What the final field says, unless other fields are about other things or later words contradict it."""
    last, result = fields[-1], fields[-1].result
    peers = [field for field in fields[:-1] if field.remark == last.remark]
    if isinstance(result, str):
        refused = result in ("no_number", "ambiguous") and words.REFUSAL.search(view)
        return "refusal" if refused and all(isinstance(field.result, str) for field in peers) else result
    several = last.subject and any(field.subject != last.subject for field in peers)
    # "Rating: 5, Score: 3" speaks of two things; "Score: 3, final rating: 5" of one.
    named = not words.FINAL.search(view, last.head, last.start + len(last.label) + 10)
    several = several or (named and any(f.label != last.label and f.result != result for f in peers))
    if several or (peers and len(set(words.ITEM.findall(view))) > 1):
        return "ambiguous"
    cited = any(field.result != result and (last.quoted or field.start < last.reason_at) for field in peers)
    later = [
        field.result
        for field in fields
        if field.remark and field.start > last.start and not isinstance(field.result, str)
    ]
    later += [
        said for at, said in _said(view, scale, sure=False) if at > last.end and not isinstance(said, str)
    ]
    cited = cited or words.RETRACTED.search(view, last.end) is not None
    return "ambiguous" if cited or any(other != result for other in later) else result


def _unlabelled(view: str, scale: Scale) -> float | UnparsedReason:
    if words.REFUSAL.search(view):
        return "refusal"
    bare = words.BARE.match(view)
    if bare:
        result = _judge(view, bare, scale, words.ALL_DONE)
        item = ")" in view[bare.end() : bare.end() + 9] and "(" not in bare["open"]
        if result != "ambiguous" or len(view) <= 40:
            return "ambiguous" if item and not isinstance(result, str) else result
    said = {result for _, result in _said(view, scale)}
    if len(said) > 1:
        return "ambiguous"
    return said.pop() if said else "other_scale" if words.OTHER_SCALE.search(view) else "no_number"


def _said(view: str, scale: Scale, sure: bool = True) -> list[tuple[int, float | UnparsedReason]]:
    """The verdicts in prose ("my rating is 5") and where; without ``sure``, also what only may be one."""
    found: list[tuple[int, float | UnparsedReason]] = []
    elsewhere, other_scale = (
        {loose[0] for loose in words.LOOSE.finditer(view)},
        words.OTHER_SCALE.search(view),
    )
    for match in (*words.SAID.finditer(view), *words.VERB.finditer(view)):
        end, verb = match.end("value"), match.groupdict()
        done = words.HAN_DONE if verb.get("han") else words.HINDI_DONE if verb.get("hindi") else words.CLOSED
        if not any(
            follow.match(view, end) for follow in (done, words.FOREIGN, words.UNCLEAR)
        ) or view.startswith(":", end):
            continue
        before = words.SENTENCE.split(view[max(0, match.start() - 300) : match.start()])[-1]
        sentence = before + match[0] + words.SENTENCE.split(view[end : end + 300])[0]
        result = _judge(view, match, scale)
        line = view[max(0, match.start() - 40) : match.start()].rpartition("\n")[2]
        counted = verb.get("blank") is not None and (verb["remark"] or words.NEUTRAL.sub("", line))
        if counted and sure and not isinstance(result, str):
            result = "ambiguous"
        if not isinstance(result, str) and other_scale:
            result = "other_scale"
        numbers = re.findall(r"[0-9]+(?:[.,][0-9]+)?", sentence)
        if words.DOUBT.search(sentence) or len(numbers) > 1 or words.NOT_MINE.search(before[-40:]):
            result = result if isinstance(result, str) else "ambiguous"
        elif sure and not isinstance(result, str) and elsewhere - {match["value"]}:
            result = "ambiguous"
        found.append((match.start("value"), result))
    return found


def _reason(body: str, view: str, field: _Field | None, labelled: bool = False) -> str:
    """The comment: what follows its label, or else (unless only ``labelled`` will do) all but the field."""
    label = words.REASON.search(view)
    if not label and (labelled or field is None):
        return "" if labelled else _tidy(body)
    if label and (field is None or field.start < label.end()):
        return _tidy(body[label.end() :])
    assert field is not None
    begin = label.end() if label else 0
    head = field.head if field.head >= begin else field.start
    if label:
        return _tidy(body[begin:head])
    rest = words.LEFTOVER.match(view, field.end)
    return _tidy(body[:head] + body[rest.end() if rest else field.end :])


def _tidy(reason: str) -> str:
    """``reason`` without what no database stores, trimmed and cut."""
    return words.UNSTORABLE.sub("\ufffd", reason.strip(words.EDGES)[:_LONGEST_REASON]).strip(words.EDGES)
