"""One batch of generation: many rows, each with its own length, sampling, seed, stops and rating scale.

Built on transformers' ``generate`` with one logits processor and one stopping criterion, so that every
architecture it knows works. A row that is asked for a rating gets it by likelihood: its first token is
the scale's most probable value, read from the same forward pass that would generate it, and the reason
is written after it. ``score`` reads how likely given tokens are, in one forward pass. It knows no queue,
thread or event loop.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from sandbox.models.guides import Guide
from sandbox.models.mixing import batches, speaking_through
from sandbox.models.scales import Longer

TOP_K = 64
"""Sampling chooses among this many most probable tokens at most."""
SCORED_AT_ONCE = 2048
"""Tokens that are scored in one forward pass, unless a single text is longer: each has a whole vocabulary."""


@dataclass(slots=True)
class Row:
    """One prompt and what becomes of it.

    ``scale_tokens`` maps the values of a scale to their tokens, and ``longer`` is the one value of two, if
    there is one (nothing is forced then); ``forced`` are tokens that follow the value; ``guide`` leads to a
    form; ``on_text`` is called in the generating thread with new text; ``is_cancelled`` is asked there.
    """

    prompt: list[int]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stops: tuple[str, ...] = ()
    scale_tokens: dict[int, int] | None = None
    longer: Longer | None = None
    forced: list[int] = field(default_factory=list)
    guide: Guide | None = None
    adapter: str = ""
    is_cancelled: Callable[[], bool] = lambda: False
    on_text: Callable[[str], None] | None = None
    on_done: Callable[[], None] | None = None

    tokens: list[int] = field(default_factory=list)
    probabilities: dict[int, float] | None = None
    finish: str = ""
    said: str = ""
    said_so_far: str = ""

    @property
    def budget(self) -> int:
        """The most tokens this row can take, forced ones included."""
        return self.preamble + (0 if self.is_bare_rating else self.max_tokens)

    @property
    def preamble(self) -> int:
        """How many of its tokens are not free text: the rating and what is forced after it."""
        if self.scale_tokens is None:
            return 0
        return 1 + (self.longer is not None) + len(self.forced)

    @property
    def is_bare_rating(self) -> bool:
        """Whether nothing is wanted but a value of the scale."""
        return self.scale_tokens is not None and not self.forced


def generate(model: Any, tokenizer: Any, rows: Sequence[Row]) -> None:
    """Generate for all ``rows``, filling them in: at once, but for those whose adapters must be alone."""
    for batch in batches(model, rows):
        _generate(model, tokenizer, batch)


def _generate(model: Any, tokenizer: Any, rows: Sequence[Row]) -> None:
    """Generate for one batch. Left-padded; one forward pass a token."""
    device = model.device
    longest = max(len(row.prompt) for row in rows)
    pad = tokenizer.pad_token_id
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, longest - len(row.prompt) :] = torch.tensor(row.prompt, dtype=torch.long)
        mask[index, longest - len(row.prompt) :] = 1
    ends = end_tokens(model, tokenizer)
    with torch.inference_mode(), speaking_through(model, rows) as adapters:
        model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            max_new_tokens=max(row.budget for row in rows),
            pad_token_id=pad,
            eos_token_id=None,
            logits_processor=LogitsProcessorList([_Steering(rows, longest)]),
            stopping_criteria=StoppingCriteriaList([_Stopping(rows, tokenizer, ends)]),
            **adapters,
        )


class Scored(NamedTuple):
    """Plain text token by token. ``logprobs`` (natural) and ``top`` are None where nothing stands before.

    ``pieces`` are the tokens' texts, ``offsets`` where they begin in ``text``; ``extended`` tells whether
    the last token was added.
    """

    text: str
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    offsets: tuple[int, ...]
    logprobs: tuple[float | None, ...]
    top: tuple[dict[str, float] | None, ...]
    extended: bool


@dataclass(slots=True)
class ScoreRow:
    """One text to be scored, by its tokens; ``lead`` are those before it that are not told of."""

    tokens: list[int]
    lead: list[int] = field(default_factory=list)
    top: int = 0
    extend: bool = False
    adapter: str = ""
    is_cancelled: Callable[[], bool] = lambda: False
    on_done: Callable[[Scored], None] | None = None

    def __len__(self) -> int:
        return max(len(self.lead) + len(self.tokens), 1)


def score(model: Any, tokenizer: Any, rows: Sequence[ScoreRow]) -> None:
    """Score all ``rows``, those of like length in one forward pass, and tell each what was found."""
    spelling = Spelling(tokenizer)
    waiting = sorted(rows, key=len)
    while waiting:
        size = max(sum(len(row) <= SCORED_AT_ONCE // (n + 1) for n, row in enumerate(waiting)), 1)
        batch = [row for row in waiting[:size] if not row.is_cancelled()]
        waiting = waiting[size:]
        for alike in batches(model, batch):
            _score(model, spelling, alike)


def _score(model: Any, spelling: Spelling, rows: Sequence[ScoreRow]) -> None:
    tokenizer = spelling.tokenizer
    longest = max(map(len, rows))
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    texts = [(row.lead + row.tokens) or [start] for row in rows]
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, tokens in enumerate(texts):  # padded on the right: what comes after changes nothing before it
        ids[index, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        mask[index, : len(tokens)] = 1
    with torch.inference_mode(), speaking_through(model, rows) as adapters:
        logits = model(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False, **adapters
        ).logits
        found = [_read(row, logits[i, : len(texts[i])], spelling) for i, row in enumerate(rows)]
    for row, scored in zip(rows, found, strict=True):
        if row.on_done:
            row.on_done(scored)


def _read(row: ScoreRow, logits: torch.Tensor, spelling: Spelling) -> Scored:
    """What ``logits``, of shape (lead and tokens, vocabulary), say of a row's tokens."""
    tokens = list(row.tokens)
    if row.extend:
        tokens.append(int(logits[-1].argmax()))
    bare = len(tokens) - row.extend == 0
    first = 0 if row.lead or bare else 1  # of the very first token nothing is known
    logprobs: list[float | None] = [None] * first
    top: list[dict[str, float] | None] = [None] * first
    place = max(len(row.lead) - 1, 0)  # the logits there are about the first token that is scored
    for begin in range(first, len(tokens), 256):  # in parts: in floats they take twice as much memory
        part = tokens[begin : begin + 256]
        at = place + begin - first
        shares = torch.log_softmax(logits[at : at + len(part)].float(), dim=1)
        chosen = shares.gather(1, torch.tensor(part, device=shares.device).unsqueeze(1))
        logprobs += chosen.squeeze(1).tolist()
        top += _most(shares, row.top, spelling)
    text, pieces, offsets = spelling.spell(tokens)
    return Scored(text, tuple(tokens), tuple(pieces), tuple(offsets), tuple(logprobs), tuple(top), row.extend)


def _most(shares: torch.Tensor, count: int, spelling: Spelling) -> list[dict[str, float] | None]:
    if not count:
        return [{} for _ in range(len(shares))]
    values, ids = shares.topk(count, dim=1)
    found: list[dict[str, float] | None] = []
    for likely, tokens in zip(values.tolist(), ids.tolist(), strict=True):
        named: dict[str, float] = {}
        for logprob, token in zip(likely, tokens, strict=True):
            named.setdefault(spelling.piece(token), logprob)  # of two that look alike, the likelier
        found.append(named)
    return found


class Spelling:
    """The texts of tokens, one by one and together."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._before = tokenizer.encode("a", add_special_tokens=False)
        self._pieces: dict[int, str] = {}

    def spell(self, tokens: Sequence[int]) -> tuple[str, list[str], list[int]]:
        """The text of tokens, the text of each by itself, and where each begins in the whole."""
        text = self._decode(tokens)
        pieces = [self.piece(token) for token in tokens]
        if "".join(pieces) == text:
            lengths = [len(piece) for piece in pieces]
        else:  # characters of several tokens: each token adds what it adds to a few before it
            around = [tokens[max(place - 4, 0) : place + 1] for place in range(len(tokens))]
            lengths = [max(len(self._decode(a)) - len(self._decode(a[:-1])), 0) for a in around]
        offsets = [0]
        for length in lengths:
            offsets.append(min(offsets[-1] + length, len(text)))
        return text, pieces, offsets[:-1]

    def piece(self, token: int) -> str:
        """The text of one token within a text: some tokenizers drop the space of one that stands alone."""
        if token not in self._pieces:
            whole = self._decode([*self._before, token])
            self._pieces[token] = whole[len(self._decode(self._before)) :]
        return self._pieces[token]

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))


class _Steering(LogitsProcessor):
    """Chooses every row's next token and leaves it as the only possible one."""

    def __init__(self, rows: Sequence[Row], prompt_length: int) -> None:
        self._rows = rows
        self._start = prompt_length
        self._random = [random.Random(row.seed) for row in rows]
        self._temperature = torch.tensor([[row.temperature or 1.0] for row in rows])
        self._top_p = torch.tensor([[row.top_p] for row in rows])

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1] - self._start
        chosen: dict[int, int] = {}
        sampled: list[int] = []
        for index, row in enumerate(self._rows):
            if row.finish:
                continue
            if row.guide is not None:
                row.guide.allow(scores[index])
            if step == 0 and row.scale_tokens is not None:
                chosen[index] = self._judge(row, scores[index])
            elif step == 1 and row.longer is not None:
                chosen[index] = self._split(row, row.longer, scores[index])
            elif row.scale_tokens is not None and step <= len(row.forced):
                chosen[index] = row.forced[step - 1]
            elif row.temperature > 0:
                sampled.append(index)
        if sampled:
            chosen.update(zip(sampled, self._sample(scores, sampled), strict=True))
        for index, token in chosen.items():
            scores[index] = float("-inf")
            scores[index, token] = 0.0
        return scores

    def _judge(self, row: Row, scores: torch.Tensor) -> int:
        assert row.scale_tokens is not None
        values = list(row.scale_tokens)
        logits = scores[[row.scale_tokens[value] for value in values]].float()
        shares = torch.softmax(logits, dim=0).tolist()
        row.probabilities = dict(zip(values, shares, strict=True))
        if row.longer is not None:  # what follows its first token is asked next
            return row.scale_tokens[row.longer.begins]
        return row.scale_tokens[max(values, key=lambda value: (row.probabilities or {})[value])]

    @staticmethod
    def _split(row: Row, longer: Longer, scores: torch.Tensor) -> int:
        """Part the share of two values that begin alike by what the second token is."""
        assert row.probabilities is not None
        follows = float(torch.softmax(scores.float(), dim=0)[longer.token])
        both = row.probabilities[longer.begins]
        row.probabilities[longer.begins] = both * (1 - follows)
        row.probabilities[longer.value] = both * follows
        return longer.token

    def _sample(self, scores: torch.Tensor, indices: list[int]) -> list[int]:
        """Top-k, then top-p, then the inverse of the cumulative distribution at each row's own random number.

        So a row's text depends on its seed, not on the rows beside it (but for the last bits of arithmetic).
        """
        size = min(TOP_K, scores.shape[1])
        logits, tokens = (scores[indices].float().cpu() / self._temperature[indices]).topk(size, dim=1)
        shares = torch.softmax(logits, dim=1)
        before = shares.cumsum(dim=1) - shares
        shares = torch.where(before < self._top_p[indices], shares, torch.zeros(()))
        cumulative = shares.cumsum(dim=1)
        numbers = torch.tensor([[self._random[index].random()] for index in indices])
        places = torch.searchsorted(cumulative, numbers * cumulative[:, -1:], right=True)
        return tokens.gather(1, places.clamp(max=size - 1)).squeeze(1).tolist()


class _Stopping(StoppingCriteria):
    """Ends each row by itself: at an end token, its length, a stop text or its cancellation."""

    def __init__(self, rows: Sequence[Row], tokenizer: Any, ends: frozenset[int]) -> None:
        self._rows = rows
        self._tokenizer = tokenizer
        self._ends = ends

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        newest = input_ids[:, -1].tolist()
        for row, token in zip(self._rows, newest, strict=True):
            if not row.finish:
                self._take(row, token)
        done = [bool(row.finish) for row in self._rows]
        return torch.tensor(done, dtype=torch.bool, device=input_ids.device)

    def _take(self, row: Row, token: int) -> None:
        if row.is_cancelled():
            row.finish = "cancelled"
        elif token in self._ends and len(row.tokens) >= row.preamble:
            row.finish = "stop"
        else:
            row.tokens.append(token)
            self._look(row)
            if row.guide is not None and row.guide.take(token):
                row.finish = row.finish or "stop"
            if not row.finish and len(row.tokens) >= row.budget:
                row.finish = "stop" if row.is_bare_rating else "length"
        if row.finish:
            row.said = self._text(row) if not row.stops else _until(self._text(row), row.stops)[0]
            self._tell(row, row.said)
            if row.on_done:
                row.on_done()

    def _look(self, row: Row) -> None:
        """Look for stop texts and stream what can't become one."""
        if not row.stops and row.on_text is None:
            return
        text, stopped = _until(self._text(row), row.stops)
        if stopped:
            row.finish = "stop"
        elif not text.endswith("\ufffd"):  # half a character: wait for the rest
            self._tell(row, text[: len(text) - _held(text, row.stops)])

    def _tell(self, row: Row, text: str) -> None:
        if row.on_text and len(text) > len(row.said_so_far):
            row.on_text(text[len(row.said_so_far) :])
            row.said_so_far = text

    def _text(self, row: Row) -> str:
        return str(self._tokenizer.decode(row.tokens[row.preamble :], skip_special_tokens=True))


def _until(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """``text`` up to the first stop, and whether there was one."""
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(found)], True) if found else (text, False)


def _held(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of ``text`` may be the beginning of a stop."""
    return max(
        (n for stop in stops for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), default=0
    )


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a reply."""
    configured = model.generation_config.eos_token_id
    several = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in (*several, tokenizer.eos_token_id) if token is not None)
