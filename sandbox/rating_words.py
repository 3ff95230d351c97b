"""The words and signs by which raters give a rating, in several languages, as compiled patterns.

Pure data for ``sandbox.ratings``, which knows what to make of a match. Patterns read a *view* of the
reply in which marks of emphasis are blanks and full-width signs are plain ones.
"""

from __future__ import annotations

import re

# Without "un", "une", "um" and "due", which are other words as well, and "null", a computer's "nothing".
NAMES = (
    "zero one two three four five six seven eight nine ten",
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez",
    "zéro - deux trois quatre cinq six sept huit neuf dix",
    "- eins zwei drei vier fünf sechs sieben acht neun zehn",
    "शून्य एक दो तीन चार पाँच छह सात आठ नौ दस",
    "शून्य एक दो तीन चार पांच छः सात आठ नौ दस",
    "零 一 二 三 四 五 六 七 八 九 十",
)
NUMBERS = {name: n for line in NAMES for n, name in enumerate(line.split()) if name != "-"}


def _any(words: str) -> str:
    """A pattern for any of ``words``, longest first; they are parted by spaces, ``~`` stands for a blank."""
    parts = sorted(words.split(), key=len, reverse=True)
    return "(?:" + "|".join(re.escape(part).replace(r"\~", "[ ]") for part in parts) + ")"


ANY_CASE = re.IGNORECASE
# Vowel signs of Devanagari are no \w for Python, so \b would cut its words.
HEAD, TAIL = r"(?<![^\W\d_])(?<![\u0900-\u0963])", r"(?![^\W\d_])(?![\u0900-\u0963])"
# Every repeat of blanks is bounded: two unbounded ones side by side would take quadratic time.
S = r"[ \t]{0,20}"
WORD = _any(" ".join(NUMBERS))
N = rf"(?:[0-9]{{1,4}}|{HEAD}{WORD}{TAIL})"
VALUE = rf"(?P<value>-?[0-9]+(?:[.,][0-9]+)?|{WORD}(?![^\W\d_分点])(?![\u0900-\u0963]))"
SPACED = _any(
    "rating score grade puntuación puntuacion calificación calificacion valoración valoracion puntaje "
    "notation bewertung punktzahl wertung रेटिंग अंक स्कोर मूल्यांकन pontuação classificação avaliação "
    "punteggio valutazione voto"
)
UNSPACED = _any("评分 評分 分数 分數 得分 打分 評価 評点 点数 採点 スコア 평점 점수")
# Just as often the head of a remark ("Note: 3 claims are wrong"), so only read where nothing follows.
REMARK = _any("note nota évaluation evaluation evaluación")
LABEL = rf"(?P<label>{HEAD}(?:{SPACED}|(?P<remark>{REMARK})){TAIL}|{UNSPACED})"
WHY = _any(
    "reason reasoning rationale explanation justification razón razon motivo justificación explicación "
    "raison motif explication grund begründung erklärung कारण व्याख्या razão 理由 原因 解释 説明 이유"
)
REASON = re.compile(rf"{HEAD}{WHY}{TAIL}{S}(?:[:=][ \t]*|(?=\n))", ANY_CASE)
POINTS = _any("points point pts puntos punto punkten punkte punkt pontos punti अंक")
UNIT = rf"(?:{S}(?:{POINTS}{TAIL}|[分点點점]))?"
OF = rf"(?:/|{_any('out~of of de sur sobre su von aus')}{TAIL}|中の?)"
ARTICLE = rf"(?:(?-i:{_any('a an un una une eine ein der die das is es est ist')})[ \t]{{1,20}})?"
PHRASE = r"[ \t](?:for|on|of|para|pour|für|zu)[ \t][^\n:=0-9]{1,40}?"
LOOSELY = r"(?P<loose>(?:[ ][^\W\d_]{1,20}){1,2}(?=[ ]?[:=]))"
ABOUT = rf"(?P<about>{S}\([^()\n]{{0,60}}\)|{PHRASE}|{LOOSELY})?"
BREAK = rf"(?P<newline>{S}[:=]?{S}\n[ \t\n]{{0,5}})"
MARK = rf"(?:{BREAK}|{S}[:=][ \t:=]{{0,20}}|[ \t]{{1,20}}[-–—][ \t]{{1,20}})"
FIELD = re.compile(rf"{LABEL}{ABOUT}{MARK}[ \t('\\]{{0,20}}(?:boxed)?{S}{ARTICLE}{VALUE}?", ANY_CASE)
IS = _any("is of as at es est ist lautet beträgt de von mit be~a would~be is~a es~de est~de 是 为 為 は")
SAID = re.compile(
    rf"{LABEL}(?:{S}{IS}{S}|(?P<blank>[ \t]{{1,20}}|(?<=[分数评価点]))){ARTICLE}{VALUE}", ANY_CASE
)
# Only words that can stand between the verb and the value: "I gave up after 5" is no verdict.
OBJECT = _any(
    "it this that the answer response reply draft text one a an rating score of as at solid strong "
    "a~esta respuesta un una la el puntuación calificación nota de à cette réponse une note der die diese "
    "dieser antwort eine mit punktzahl bewertung"
)
GAP = rf"(?P<gap>(?:[ ]{OBJECT}){{0,8}})"
GIVEN = r"(?=[^.\n]{0,60}(?:geben|bewerten))"
VERB = re.compile(
    rf"(?:{HEAD}(?:I(?:'d|'ll|[ ]would|[ ]will)?[ ](?:\w{{1,12}}[ ])?"
    r"(?:give|gave|rate|rated|score|assign|award|go[ ]with)"
    r"|(?:doy|daría|otorgo|pongo|asigno|califico|puntúo|valoro)"
    r"|je[ ](?:lui[ ])?(?:donne|donnerais|mets|mettrais|attribue)"
    rf"|ich[ ](?:(?:ver)?gebe|würde{GIVEN}|bewerte(?=[^.\n]{{0,60}}[ ]mit[ ]))|gebe[ ]ich){TAIL}{GAP}[ \t]"
    rf"|{HEAD}(?P<hindi>मैं)[^.!?;:\n0-9。！？।]{{0,40}}?[ \t]"
    r"|(?P<han>我(?:会|想|要)?(?:给|打|评)[^。;\n0-9]{0,20}?|得|打))(?P<value>-?[0-9]+(?:[.,][0-9]+)?)",
    ANY_CASE,
)
GIVES = _any("देता देती दूँगा दूंगा दूँगी दूंगी")
THEN = _any(
    "because since for as overall due on given the this it i porque ya~que pues por la esta parce~que car à "
    "pour le cette weil denn da geben bewerten vergeben है हैं क्योंकि"
)
STOP = r"\Z|\n|[.!;。！।](?![0-9])|,(?![0-9])"
CLOSED = re.compile(
    rf"{UNIT}[ \t)']*(?:{STOP}|[(:]|<[:b]|[-–—](?=[ \t])|(?:{THEN}|{GIVES}){TAIL}|{WHY}{S}[:=])", ANY_CASE
)
ENDED = re.compile(rf"{UNIT}[ \t)']*(?:{STOP})", ANY_CASE)
LINE_DONE = re.compile(rf"{UNIT}[ \t.!)':。！।]*(?:\n|\Z)", ANY_CASE)
ALL_DONE = re.compile(rf"{UNIT}[\s.!)':。！।]*\Z", ANY_CASE)
HAN_DONE = re.compile(rf"{S}分[ \t)']*(?:{STOP})")
HINDI_DONE = re.compile(rf"(?:{S}(?:अंक|की रेटिंग|रेटिंग))?{S}{GIVES}(?![\u0900-\u0963])")
FOREIGN = re.compile(
    rf"{UNIT}{S}(?:%|{_any('percent per~cent por~ciento pour~cent prozent प्रतिशत')}"
    rf"|\(?{S}{OF}{S}{N}|में[ ]से)",
    ANY_CASE,
)
STARS = re.compile(
    rf"[ \t-]{{0,20}}(?:{_any('stars star estrellas étoiles sterne sternen')}{TAIL}|[星★⭐])", ANY_CASE
)
OR = _any("to or and a al o y u à ou et bis oder und या से और")
RATHER = _any(
    "no not actually wait rather maybe perhaps better or now make on~reflection changed~to corrected~to "
    "revised~to o ou oder या quizás nein non plutôt eher"
)
FOR = _any("for para pour für")
SORRY = _any("actually edit correction wait sorry scratch on~reflection corrección korrektur désolé 更正")
RETRACTED = re.compile(
    rf"\n{S}(?:{SORRY}|no{TAIL})"
    r"[^\n]{0,40}?[0-9]|\n\s{0,5}[0-9]{1,3}[ \t.]{0,5}(?:\n|\Z)",
    ANY_CASE,
)
UNCLEAR = re.compile(
    rf"{UNIT}(?:{S}(?:{OR}{TAIL}|[-–—~〜,;:、]|到|至|或|和){S}{ARTICLE}{N}"
    rf"|{S}{FOR}{TAIL}[^\n]{{1,40}}?[0-9]{S}{FOR}{TAIL}|{S}[,;]{S}(?-i:[A-H]){S}[=:]?{S}[0-9]"
    rf"|{S}\([^()\n]{{1,30}}\){S}(?:[,;]|{OR}{TAIL}|[-–—~/]|到|至){S}{N}"
    rf"|{S}[-,;:.(–—]{{0,3}}{S}(?:{RATHER}{TAIL}|不)[^.\n。0-9]{{0,24}}[0-9]"
    rf"|[ \t]{{1,20}}[0-9]|[.:,][0-9]|{S}(?:[-=]>|→|\+|\?|\(?±|\^|…)|-{S}(?:\n|\Z)"
    rf"|{S}(?:and[ ]a[ ]half|y[ ]medi[oa]|et[ ]demie?|einhalb|plus|minus|半))",
    ANY_CASE,
)
UNTIL = _any("to through a al à bis से and y et und")
TO = rf"(?:{S}(?:[-–—~〜…]|\.\.\.?|到|至){S}|[ \t]{{1,20}}{UNTIL}[ \t]{{1,20}})"
SCALE_PARTS = (
    re.compile(rf"(?P<drop>(?<![0-9.,/-])(?P<low>{N}){TO}(?P<top>{N}))(?![0-9/]|[.,-][0-9])", ANY_CASE),
    re.compile(rf"{N}{UNIT}{S}\(?{S}(?P<drop>{OF}{S}(?P<top>{N}))(?P<low>)(?![0-9/]|[.,][0-9])", ANY_CASE),
    re.compile(
        rf"(?P<low>)(?P<drop>(?<![0-9.,/-])(?P<top>[0-9]{{1,4}}){S}(?:में[ ]से|[分点]?中の?))(?={S}[0-9])"
    ),
    re.compile(
        rf"(?P<low>)(?P<drop>(?:[满滿]分|満点|总分|out of|max\.?){S}[为是:]?{S}(?P<top>[0-9]{{1,4}})"
        r"[分点]?)",
        ANY_CASE,
    ),
)
OTHER_SCALE = re.compile(
    rf"(?:scale|escala|échelle|skala)(?:[ \t(]|:[ ]?(?={N}{TO}))[^\n0-9:),;]{{0,20}}?{N}"
    rf"|{N}{TO}{N}[ \t-]scale|\({S}{N}{TO}{N}{S}\)|max\.?[ :]{S}{N}|{N}[ -]point[ -]scale"
    rf"|[0-9](?:[^\n.0-9]{{1,8}}[0-9][^\n0-9]{{0,6}}पैमाने|{S}में[ ]से|[分点]?(?:[满滿]分|制|満点))"
    r"|(?:[满滿]分|満点|总分|out of)[^\n0-9]{0,4}[0-9]",
    ANY_CASE,
)
BARE = re.compile(rf"(?P<open>[\s(':]*){VALUE}", ANY_CASE)
LOOSE = re.compile(r"(?<=[\w,;] )[0-9]{1,3}(?=[.!]?(?:\n|\Z)|\. )")
SENTENCE = re.compile(r"[!?\n。！？।]|\.(?![0-9])")
DOUBT = re.compile(
    r"n't\b|不|没|如果|若|也许|可能|大约|左右|नहीं|अगर|यदि|शायद|लगभग|\b(?:not|never|no|if|unless|maybe|perhaps|"
    r"would have|considered|instead|than|about|around|roughly|almost|nearly|least|most|up to|between|si|"
    r"quizás?|tal vez|casi|unos|entre|ne|pas|peut-être|aurais|environ|presque|nicht|keine?n?|wenn|falls|"
    r"vielleicht|etwa|ungefähr|fast|zwischen)\b",
    ANY_CASE,
)
REFUSAL = re.compile(
    r"\b(?:can(?:not|'t| not)|unable to|not able to|won't|will not|(?:decline|refuse) to)\b[^.\n]{0,30}?"
    r"\b(?:rat|scor|evaluat|judg|assess|provid|giv|assign|help|assist|comply|answer|grad)"
    r"|\bno (?:puedo|podría|me es posible)\b[^.\n]{0,30}?\b(?:calific|evalu|valor|puntu|dar|juzg|ayud)"
    r"|\b(?:peux|puis|pourrais) (?:malheureusement )?pas\b|\b(?:kann|möchte|darf)\b[^.\n]{0,60}?"
    r"\b(?:nicht|keine)\b[^.\n]{0,40}?(?:bewert|beurteil|abgeb|geben|helf)|नहीं (?:कर|दे) (?:सकत|पा)"
    r"|(?:无法|無法|不能|不便|拒绝)[^。\n]{0,20}?(?:评|評|打分|给|判断|回答|帮)|できません"
    r"|não posso|non posso",
    ANY_CASE,
)
NOT_MINE = re.compile(
    r"\b(?:max|maximum|min|minimum|average|avg|mean|previous|prior|old|earlier|former|user|highest|lowest|possible|expected|peer|other|suggested|example|"
    r"no|máxim[oa]|mínim[oa]|promedio|moyenne|durchschnittliche|höchste|sin|pas|keine?)\b|औसत|अधिकतम|最高|最低|平均|满分",
    ANY_CASE,
)
NEUTRAL = re.compile(
    r"\b(?:my|the|final|overall|so|therefore|thus|initial|updated|revised|new|total|first|mi|la|ma|finale|globale|"
    r"initiale|definitiva|définitive|global|général|generale?|is|es|est|ist|meine|die|endgültige|gesamt|erste|de)\b|मेरी|मेरा|अंतिम|कुल|पहली|我的|最终|最終|总|初步|[\W\d_]",
    ANY_CASE,
)
THINGS = _any("answer response option draft candidate model respuesta réponse antwort उत्तर 回答")
FINAL = re.compile(r"final|overall|global|definitiv|endgültig|gesamt|अंतिम|最终|最終|总", ANY_CASE)
ITEM = re.compile(
    rf"{THINGS}[ \t#]{{0,9}}"
    r"((?-i:[A-H])(?!\w)|[a-h](?=[ \t]{0,9}:)|[0-9]{1,2}(?=[ \t]{0,9}[:\n]))",
    ANY_CASE,
)
LISTED = re.compile(r"[ \t]{0,20}[0-9]{1,2}[.)]")
THINK = re.compile(r"<[ ]?(/?)[ ]?(?:think|thinking|reasoning)(?:[ ][^<>]{0,40})?>|\[(/?)THINK\]", ANY_CASE)
QUICK = re.compile(
    r"Reason: (?P<before>[^0-9\n<\0]+)\nRating: (?P<last>[0-9])\Z"
    r"|Rating: (?P<first>[0-9])(?:\nReason: (?P<after>[^0-9\n<\0]+))?\Z"
)
LABELLED = re.compile(r"rating|score|grade|not[ea]|evaluat", ANY_CASE)
# A joiner between Indic or Arabic letters, or in an emoji, belongs to the spelling.
INVISIBLE = re.compile(
    r"[\0\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]|(?<=[0-9])\ufe0f?\u20e3"
    r"|(?<![\u0600-\u0dff\ufe0f\u2600-\U0001ffff])[\u200c\u200d]"
)
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
LEFTOVER = re.compile(rf"{UNIT}[ \t).:,;–—-]*")
EDGES = " \t\r\n\v\f*_`#|"
QUOTES = '"“”«»「」„'
PLAIN: dict[int, int | str] = {
    ord(mark): " " for mark in "*_`[]{}\r\u00a0\u2007\u202f\u3000『』【】‘" + QUOTES
}
PLAIN |= {0xFF01 + n: 0x21 + n for n in range(94)} | {
    ord("|"): ":",
    ord("’"): "'",
    ord("−"): "-",
    ord("，"): ";",
}
PLAIN |= {ord(mark): "\n" for mark in "\x0b\x0c\x85\u2028\u2029"}
