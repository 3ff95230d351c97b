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

from sandbox.rubric import Scale

Method = Literal["text", "structured", "likelihood", "human"]
UnparsedReason = Literal[
    "empty", "refusal", "no_number", "ambiguous", "out_of_range", "other_scale", "thinking_only", "malformed"
]

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
    subject: str
    remark: bool
    quoted: bool
    reason_at: int  # where the comment that holds it begins, or -1


# Without "un", "une", "um" and "due", which are other words as well, and "null", a computer's "nothing".
_NAMES = (
    "zero one two three four five six seven eight nine ten",
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez",
    "zéro - deux trois quatre cinq six sept huit neuf dix",
    "- eins zwei drei vier fünf sechs sieben acht neun zehn",
    "शून्य एक दो तीन चार पाँच छह सात आठ नौ दस",
    "शून्य एक दो तीन चार पांच छः सात आठ नौ दस",
    "零 一 二 三 四 五 六 七 八 九 十",
)
_NUMBERS = {name: n for line in _NAMES for n, name in enumerate(line.split()) if name != "-"}


def _any(words: str) -> str:
    """A pattern for any of ``words``, longest first; they are parted by spaces, ``~`` stands for a blank."""
    parts = sorted(words.split(), key=len, reverse=True)
    return "(?:" + "|".join(re.escape(part).replace(r"\~", "[ ]") for part in parts) + ")"


_I = re.IGNORECASE
# Vowel signs of Devanagari are no \w for Python, so \b would cut its words.
_HEAD, _TAIL = r"(?<![^\W\d_])(?<![\u0900-\u0963])", r"(?![^\W\d_])(?![\u0900-\u0963])"
# Every repeat of blanks is bounded: two unbounded ones side by side would take quadratic time.
_S = r"[ \t]{0,20}"
_WORD = _any(" ".join(_NUMBERS))
_N = rf"(?:[0-9]{{1,4}}|{_HEAD}{_WORD}{_TAIL})"
_VALUE = rf"(?P<value>-?[0-9]+(?:[.,][0-9]+)?|{_WORD}(?![^\W\d_分点])(?![\u0900-\u0963]))"
_SPACED = _any(
    "rating score grade puntuación puntuacion calificación calificacion valoración valoracion puntaje notation "
    "bewertung punktzahl wertung रेटिंग अंक स्कोर मूल्यांकन pontuação classificação avaliação punteggio valutazione voto"
)
_UNSPACED = _any("评分 評分 分数 分數 得分 打分 評価 評点 点数 採点 スコア 평점 점수")
# Just as often the head of a remark ("Note: 3 claims are wrong"), so only read where nothing follows.
_REMARK = _any("note nota évaluation evaluation evaluación")
_LABEL = rf"(?P<label>{_HEAD}(?:{_SPACED}|(?P<remark>{_REMARK})){_TAIL}|{_UNSPACED})"
_WHY = _any(
    "reason reasoning rationale explanation justification razón razon motivo justificación explicación raison "
    "motif explication grund begründung erklärung कारण व्याख्या razão 理由 原因 解释 説明 이유"
)
_REASON = re.compile(rf"{_HEAD}{_WHY}{_TAIL}{_S}(?:[:=][ \t]*|(?=\n))", _I)
_UNIT = rf"(?:{_S}(?:{_any('points point pts puntos punto punkten punkte punkt pontos punti अंक')}{_TAIL}|[分点點점]))?"
_OF = rf"(?:/|{_any('out~of of de sur sobre su von aus')}{_TAIL}|中の?)"
_ARTICLE = rf"(?:{_any('a an un una une eine ein der die das is es est ist')}[ \t]{{1,20}})?"
_ABOUT = rf"(?P<about>{_S}\([^()\n]{{0,60}}\)|[ \t](?:for|on|of|para|pour|für|zu)[ \t][^\n:=0-9]{{1,40}}?|(?P<loose>(?:[ ][^\W\d_]{{1,20}}){{1,2}}(?=[ ]?[:=])))?"
_BREAK = rf"(?P<newline>{_S}[:=]?{_S}\n[ \t\n]{{0,5}})"
_MARK = rf"(?:{_BREAK}|{_S}[:=][ \t:=]{{0,20}}|[ \t]{{1,20}}[-–—][ \t]{{1,20}})"
_FIELD = re.compile(rf"{_LABEL}{_ABOUT}{_MARK}[ \t('\\]{{0,20}}(?:boxed)?{_S}{_ARTICLE}{_VALUE}?", _I)
_IS = _any("is of as at es est ist lautet beträgt de von mit be~a would~be is~a es~de est~de 是 为 為 は")
_SAID = re.compile(
    rf"{_LABEL}(?:{_S}{_IS}{_S}|(?P<blank>[ \t]{{1,20}}|(?<=[分数评価点]))){_ARTICLE}{_VALUE}", _I
)
_GAP = r"(?P<gap>[^.!?;:\n0-9。！？।]{0,40}?)"
_VERB = re.compile(
    rf"(?:{_HEAD}(?:I(?:'d|'ll|[ ]would|[ ]will)?[ ](?:\w{{1,12}}[ ])?(?:give|gave|rate|rated|score|assign|award|go)"
    r"|(?:doy|daría|otorgo|pongo|asigno|califico|puntúo|valoro)|(?:gebe|würde|vergebe|bewerte)"
    rf"|je[ ](?:lui[ ])?(?:donne|donnerais|mets|mettrais|attribue|note)|(?P<hindi>मैं)){_TAIL}"
    rf"{_GAP}[ \t]|(?P<han>我(?:会|想|要)?(?:给|打|评)[^。;\n0-9]{{0,20}}?|得|打))(?P<value>-?[0-9]+(?:[.,][0-9]+)?)",
    _I,
)
_GIVES = _any("देता देती दूँगा दूंगा दूँगी दूंगी")
_THEN = _any(
    "because since for as overall due on given the this it i porque ya~que pues por la esta parce~que car à pour le "
    "cette weil denn da geben bewerten vergeben है हैं क्योंकि"
)
_STOP = r"\Z|\n|[.!;。！।](?![0-9])|,(?![0-9])"
_CLOSED = re.compile(
    rf"{_UNIT}[ \t)']*(?:{_STOP}|[(:]|<[:b]|[-–—](?=[ \t])|(?:{_THEN}|{_GIVES}){_TAIL}|{_WHY}{_S}[:=])", _I
)
_ENDED = re.compile(rf"{_UNIT}[ \t)']*(?:{_STOP})", _I)
_LINE_DONE = re.compile(rf"{_UNIT}[ \t.!)':。！।]*(?:\n|\Z)", _I)
_ALL_DONE = re.compile(rf"{_UNIT}[\s.!)':。！।]*\Z", _I)
_HAN_DONE = re.compile(rf"{_S}分[ \t)']*(?:{_STOP})")
_HINDI_DONE = re.compile(rf"(?:{_S}(?:अंक|की रेटिंग|रेटिंग))?{_S}{_GIVES}(?![\u0900-\u0963])")
_FOREIGN = re.compile(
    rf"{_UNIT}{_S}(?:%|{_any('percent per~cent por~ciento pour~cent prozent प्रतिशत')}|\(?{_S}{_OF}{_S}{_N}|में[ ]से)",
    _I,
)
_STARS = re.compile(
    rf"[ \t-]{{0,20}}(?:{_any('stars star estrellas étoiles sterne sternen')}{_TAIL}|[星★⭐])", _I
)
_OR = _any("to or and a al o y u à ou et bis oder und या से और")
_RATHER = _any(
    "no not actually wait rather maybe perhaps better or now make on~reflection changed~to corrected~to revised~to "
    "o ou oder या quizás nein non plutôt eher"
)
_RETRACTED = re.compile(
    rf"\n{_S}(?:{_any('actually edit correction wait sorry scratch on~reflection corrección korrektur désolé 更正')}|no{_TAIL})"
    r"[^\n]{0,40}?[0-9]",
    _I,
)
_UNCLEAR = re.compile(
    rf"{_UNIT}(?:{_S}(?:{_OR}{_TAIL}|[-–—~〜,;:、]|到|至|或|和){_S}{_ARTICLE}{_N}"
    rf"|{_S}\([^()\n]{{1,30}}\){_S}(?:{_OR}{_TAIL}|[-–—~/]|到|至){_S}{_N}"
    rf"|{_S}[-,;:.(–—]{{0,3}}{_S}(?:{_RATHER}{_TAIL}|不)[^.\n。0-9]{{0,24}}[0-9]"
    rf"|[ \t]{{1,20}}[0-9]|[.:,][0-9]|{_S}(?:[-=]>|→|\+|\?|±|\^|…)|-{_S}(?:\n|\Z)"
    rf"|{_S}(?:and[ ]a[ ]half|y[ ]medi[oa]|et[ ]demie?|einhalb|plus|minus|半))",
    _I,
)
_TO = rf"(?:{_S}(?:[-–—~〜…]|\.\.\.?|到|至){_S}|[ \t]{{1,20}}{_any('to through a al à bis से and y et und')}[ \t]{{1,20}})"
_SCALE_PARTS = (
    re.compile(rf"(?P<drop>(?<![0-9.,/-])(?P<low>{_N}){_TO}(?P<top>{_N}))(?![0-9/]|[.,-][0-9])", _I),
    re.compile(rf"{_N}{_UNIT}{_S}\(?{_S}(?P<drop>{_OF}{_S}(?P<top>{_N}))(?P<low>)(?![0-9/]|[.,][0-9])", _I),
    re.compile(
        rf"(?P<low>)(?P<drop>(?<![0-9.,/-])(?P<top>[0-9]{{1,4}}){_S}(?:में[ ]से|[分点]?中の?))(?={_S}[0-9])"
    ),
    re.compile(
        rf"(?P<low>)(?P<drop>(?:[满滿]分|満点|总分|out of|max\.?){_S}[为是:]?{_S}(?P<top>[0-9]{{1,4}})[分点]?)",
        _I,
    ),
)
_OTHER_SCALE = re.compile(
    rf"(?:scale|escala|échelle|skala)[ \t:(][^\n0-9:),;]{{0,20}}?{_N}|[0-9][^\n.0-9]{{1,8}}[0-9][^\n0-9]{{0,6}}पैमाने"
    rf"|{_N}{_TO}{_N}[ \t-]scale|\({_S}{_N}{_TO}{_N}{_S}\)|max\.?[ :]{_S}{_N}|{_N}[ -]point[ -]scale|(?:[满滿]分|満点|总分|out of)[^\n0-9]{{0,4}}[0-9]|[0-9](?:{_S}में[ ]से|[分点]?(?:[满滿]分|制|満点))",
    _I,
)
_BARE = re.compile(rf"(?P<open>[\s(':]*){_VALUE}", _I)
_LOOSE = re.compile(r"(?<=[\w,;] )[0-9]{1,3}(?=[.!]?(?:\n|\Z)|\. )")
_SENTENCE = re.compile(r"[!?\n。！？।]|\.(?![0-9])")
_DOUBT = re.compile(
    r"n't\b|不|没|如果|若|也许|可能|大约|左右|नहीं|अगर|यदि|शायद|लगभग|\b(?:not|never|no|if|unless|maybe|perhaps|would have|"
    r"considered|instead|than|about|around|roughly|almost|nearly|least|most|up to|between|si|quizás?|tal vez|casi|unos|"
    r"entre|ne|pas|peut-être|aurais|environ|presque|nicht|keine?n?|wenn|falls|vielleicht|etwa|ungefähr|fast|zwischen)\b",
    _I,
)
_REFUSAL = re.compile(
    r"\b(?:can(?:not|'t| not)|unable to|not able to|won't|will not|(?:decline|refuse) to)\b[^.\n]{0,30}?"
    r"\b(?:rat|scor|evaluat|judg|assess|provid|giv|assign|help|assist|comply|answer|grad)"
    r"|\bno (?:puedo|podría|me es posible)\b[^.\n]{0,30}?\b(?:calific|evalu|valor|puntu|dar|juzg|ayud)"
    r"|\b(?:peux|puis|pourrais) (?:malheureusement )?pas\b|\b(?:kann|möchte|darf)\b[^.\n]{0,60}?"
    r"\b(?:nicht|keine)\b[^.\n]{0,40}?(?:bewert|beurteil|abgeb|geben|helf)|नहीं (?:कर|दे) (?:सकत|पा)"
    r"|(?:无法|無法|不能|不便|拒绝)[^。\n]{0,20}?(?:评|評|打分|给|判断|回答|帮)|できません|não posso|non posso",
    _I,
)
_NOT_MINE = re.compile(
    r"\b(?:max|min|average|avg|mean\b|previous|prior|user|highest|lowest|possible|expected|peer|other|suggested|example|"
    r"no\b|máx|mín|promedio|moyenne|durchschnitt|höchst|sin\b|pas\b|keine?\b)|औसत|अधिकतम|最高|最低|平均|满分",
    _I,
)
_NEUTRAL = re.compile(
    r"\b(?:my|the|final|overall|so|therefore|thus|initial|updated|revised|new|total|first|mi|la|ma|finale|globale|"
    r"initiale|definitiva|définitive|global|général|generale?|is|es|est|ist|meine|die|endgültige|gesamt|erste|de)\b|मेरी|मेरा|अंतिम|कुल|पहली|我的|最终|最終|总|初步|[\W\d_]",
    _I,
)
_ITEM = re.compile(
    rf"{_any('answer response option draft candidate model respuesta réponse antwort उत्तर 回答')}[ \t#]{{0,9}}"
    r"((?-i:[A-H])(?!\w)|[a-h](?=[ \t]{0,9}:)|[0-9]{1,2}(?=[ \t]{0,9}[:\n]))",
    _I,
)
_LISTED = re.compile(r"[ \t]{0,20}[0-9]{1,2}[.)]")
_THINK = re.compile(r"<[ ]?(/?)[ ]?(?:think|thinking|reasoning)(?:[ ][^<>]{0,40})?>|\[(/?)THINK\]", _I)
_QUICK = re.compile(r"Reason: ([^0-9\n<\0]+)\nRating: ([0-9])\Z|Rating: ([0-9])\nReason: ([^0-9\n<\0]+)\Z")
_LABELLED = re.compile(r"rating|score|grade|not[ea]|evaluat", _I)
# A joiner between Indic or Arabic letters, or in an emoji, belongs to the spelling.
_INVISIBLE = re.compile(
    r"[\0\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]|(?<=[0-9])\ufe0f?\u20e3"
    r"|(?<![\u0600-\u0dff\ufe0f\u2600-\U0001ffff])[\u200c\u200d]"
)
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_LEFTOVER = re.compile(rf"{_UNIT}[ \t).:,;–—-]*")
_EDGES = " \t\r\n\v\f*_`#|"
_QUOTES = '"“”«»「」„'
_PLAIN: dict[int, int | str] = {
    ord(mark): " " for mark in "*_`[]{}\r\u00a0\u2007\u202f\u3000『』【】‘" + _QUOTES
}
_PLAIN |= {0xFF01 + n: 0x21 + n for n in range(94)} | {
    ord("|"): ":",
    ord("’"): "'",
    ord("−"): "-",
    ord("，"): ";",
}
_PLAIN |= {ord(mark): "\n" for mark in "\x0b\x0c\x85\u2028\u2029"}


def read_rating(text: str, scale: Scale) -> Rating | Unparsed:
    """The rating of a free-text reply: its final labelled field, else its only clear verdict."""
    text = (text or "").strip()
    quick = _QUICK.match(text) if text.isascii() else None
    if quick and scale.holds(int(quick[2] or quick[3])) and not (quick[4] and _LABELLED.search(quick[4])):
        return Rating(float(quick[2] or quick[3]), _tidy(quick[1] or quick[4]), "text")
    visible = _INVISIBLE.sub("", text).strip()
    if not visible:
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
    bare = None if fields else _BARE.match(view)
    alone = bare is not None and _ALL_DONE.match(view, bare.end())
    return Rating(result, "" if alone else _reason(body, view, field), "text")


def read_structured(text: str, scale: Scale) -> Rating | Unparsed:
    """The rating of a reply that had to be JSON; anything else is malformed, however readable."""
    if not text or not text.strip():
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
    return None if _FIELD.search(around) else _from_object(data, scale, "text")


def _answer(text: str) -> str:
    """``text`` without its reasoning; a lone closing tag ends reasoning that the prompt had opened."""
    kept: list[str] = []
    depth = at = 0
    for tag in _THINK.finditer(text):
        if not (tag[1] or tag[2]):
            kept.append(text[at : tag.start()] if depth == 0 else "")
            depth += 1
            continue
        if depth == 0:
            kept.clear()
        depth, at = max(depth - 1, 0), tag.end()
    return "".join(kept) + (text[at:] if depth == 0 else "")


def _plain(body: str, scale: Scale) -> str:
    """``body`` for matching, of the same length: no emphasis, ASCII digits, this scale's own bounds blanked."""
    if "<" in body:
        body = re.sub(r"<([\d.,/ ]{1,12})>", r" \1 ", body)
        body = re.sub(r"<([a-z_]{1,20})>", r" \1:", body, flags=_I)
        body = re.sub(r"</[a-z_]{1,20}>", lambda tag: " " * len(tag[0]), body, flags=_I)
    view = body.translate(_PLAIN)
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
    for pattern in _SCALE_PARTS:
        view = pattern.sub(blank, view)
    return view


def _number(token: str) -> int | None:
    return int(token) if token.isdecimal() else _NUMBERS.get(token.lower())


def _value(token: str, scale: Scale) -> float | UnparsedReason:
    """What a number means on ``scale``: words only up to ten, no leading zeros, no groups of thousands."""
    named = _NUMBERS.get(token.lower())
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
    view: str, match: re.Match[str], scale: Scale, closed: re.Pattern[str] = _CLOSED
) -> float | UnparsedReason:
    """The number of ``match``, if what follows it (``closed``) lets it stand for itself."""
    end, token = match.end("value"), match["value"]
    if token is None:
        return "no_number"
    if view[end : end + 1].isnumeric() or _UNCLEAR.match(view, end):
        return "ambiguous"
    if _FOREIGN.match(view, end):
        return "other_scale"
    stars = _STARS.match(view, end)
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
    result = _judge(view, match, scale, _LINE_DONE if broken else _ENDED if remark else _CLOSED)
    # In running prose such a label is followed by anything; then it is no field at all.
    unread = result == "no_number" or (result == "ambiguous" and not _UNCLEAR.match(view, end))
    prose = (about or remark or heading) and unread
    if prose or _NOT_MINE.search(clause):
        return None
    stop = view.find("\n", end)
    seen = min(end + 60, stop % (len(view) + 1))
    if (result == "out_of_range" or not isinstance(result, str)) and _OTHER_SCALE.search(view, start, seen):
        result = "other_scale"
    quotes = (
        [body[at : at + 1] in _QUOTES for at in (start - 1, match.end("label"), end)] if start else [False]
    )
    reason = _REASON.search(view, max(line, start - 400), start)
    # "Note: 1." opens a list of remarks as often as it rates.
    opens_list = remark and match["value"] == "1" and not _LINE_DONE.match(view, end)
    if opens_list or (match["loose"] and _NEUTRAL.sub("", about) and not isinstance(result, str)):
        result = "ambiguous"
    item = _LISTED.match(view, line, start)
    subject = (item[0] if item else "") + _NEUTRAL.sub("", clause + about).lower()
    quoted = quotes == [True, False, True]
    return _Field(
        start - len(clause), start, end, result, subject, remark, quoted, reason.start() if reason else -1
    )


def _fields(view: str, body: str, scale: Scale) -> list[_Field]:
    """The labelled fields in order, the judge's final one last; a remark ("Note: 5") only if it is all there is."""
    found = [field for match in _FIELD.finditer(view) if (field := _field(match, view, body, scale))]
    remarks = [field for field in found if field.remark]
    return remarks + [field for field in found if not field.remark]


def _verdict(fields: list[_Field], view: str, scale: Scale) -> float | UnparsedReason:
    """What the final field says, unless other fields are about other things or later words contradict it."""
    last, result = fields[-1], fields[-1].result
    peers = [field for field in fields[:-1] if field.remark == last.remark]
    if isinstance(result, str):
        refused = result in ("no_number", "ambiguous") and _REFUSAL.search(view)
        return "refusal" if refused and all(isinstance(field.result, str) for field in peers) else result
    several = last.subject and any(field.subject != last.subject for field in peers)
    if several or (peers and len(set(_ITEM.findall(view))) > 1):
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
    cited = cited or _RETRACTED.search(view, last.end) is not None
    return "ambiguous" if cited or any(other != result for other in later) else result


def _unlabelled(view: str, scale: Scale) -> float | UnparsedReason:
    if _REFUSAL.search(view):
        return "refusal"
    bare = _BARE.match(view)
    if bare:
        result = _judge(view, bare, scale, _ALL_DONE)
        item = ")" in view[bare.end() : bare.end() + 9] and "(" not in bare["open"]
        if result != "ambiguous" or len(view) <= 40:
            return "ambiguous" if item and not isinstance(result, str) else result
    said = {result for _, result in _said(view, scale)}
    if len(said) > 1:
        return "ambiguous"
    return said.pop() if said else "other_scale" if _OTHER_SCALE.search(view) else "no_number"


def _said(view: str, scale: Scale, sure: bool = True) -> list[tuple[int, float | UnparsedReason]]:
    """The verdicts in running prose ("my rating is 5") and where they are; if not ``sure``, also "in grade 5"."""
    found: list[tuple[int, float | UnparsedReason]] = []
    elsewhere, other_scale = {loose[0] for loose in _LOOSE.finditer(view)}, _OTHER_SCALE.search(view)
    for match in (*_SAID.finditer(view), *_VERB.finditer(view)):
        end, verb = match.end("value"), match.groupdict()
        done = _HAN_DONE if verb.get("han") else _HINDI_DONE if verb.get("hindi") else _CLOSED
        if not any(follow.match(view, end) for follow in (done, _FOREIGN, _UNCLEAR)) or view.startswith(
            ":", end
        ):
            continue
        before = _SENTENCE.split(view[max(0, match.start() - 300) : match.start()])[-1]
        sentence = before + match[0] + _SENTENCE.split(view[end : end + 300])[0]
        result = _judge(view, match, scale)
        line = view[max(0, match.start() - 40) : match.start()].rpartition("\n")[2]
        counted = verb.get("blank") is not None and (verb["remark"] or _NEUTRAL.sub("", line))
        if counted and sure and not isinstance(result, str):
            result = "ambiguous"
        if not isinstance(result, str) and other_scale:
            result = "other_scale"
        numbers = re.findall(r"[0-9]+(?:[.,][0-9]+)?", sentence)
        if _DOUBT.search(sentence) or len(numbers) > 1 or _NOT_MINE.search(before[-40:]):
            result = result if isinstance(result, str) else "ambiguous"
        elif not isinstance(result, str) and elsewhere - {match["value"]}:
            result = "ambiguous"
        found.append((match.start("value"), result))
    return found


def _reason(body: str, view: str, field: _Field | None, labelled: bool = False) -> str:
    """The comment: what follows its label, or else (unless only ``labelled`` will do) all but the field."""
    label = _REASON.search(view)
    if not label and (labelled or field is None):
        return "" if labelled else _tidy(body)
    if label and (field is None or field.start < label.end()):
        return _tidy(body[label.end() :])
    assert field is not None
    begin = label.end() if label else 0
    head = field.head if field.head >= begin else field.start
    if label:
        return _tidy(body[begin:head])
    rest = _LEFTOVER.match(view, field.end)
    return _tidy(body[:head] + body[rest.end() if rest else field.end :])


def _tidy(reason: str) -> str:
    """``reason`` without what no database stores, trimmed and cut."""
    return _UNSTORABLE.sub("\ufffd", reason.strip(_EDGES)[:_LONGEST_REASON]).strip(_EDGES)
