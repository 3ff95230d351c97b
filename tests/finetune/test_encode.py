"""Groups as tokens: as models are asked, with the end that they stop by; and what can't be trained on."""

from __future__ import annotations

import pytest
import tiny

from finetune.encode import BETTER, WORSE, encode, end_of_turn, spread
from finetune.groups import Candidate, Turn
from sandbox.errors import UserError
from sandbox.models.templates import encode_chat


def test_a_reply_ends_with_the_token_that_ends_it() -> None:
    tokenizer = tiny.tokenizer()
    [row] = encode([tiny.group()], tokenizer, 256).rows
    assert row.query == encode_chat(tokenizer, tiny.group().chat())
    assert tokenizer.decode(row.query).endswith("<|im_start|>assistant\n")
    for reply in row.replies:
        assert reply.tokens[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>")
        assert all(reply.counts)
    assert tokenizer.decode(row.replies[0].tokens) == "be kind and ask them first<|im_end|>"
    assert row.ratings == [7, 4, 2]


def test_without_a_template_there_are_plain_lines_and_the_models_own_end() -> None:
    tokenizer = tiny.tokenizer(template=None)
    [row] = encode([tiny.group()], tokenizer, 256).rows
    assert tokenizer.decode(row.query).endswith("\n\nAssistant:")
    assert tokenizer.decode(row.replies[0].tokens) == " be kind and ask them first<|endoftext|>"


def test_a_tokenizer_that_knows_no_end_is_refused() -> None:
    tokenizer = tiny.tokenizer(template=None)
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="never stop"):
        end_of_turn(tokenizer)


def test_control_tokens_in_what_was_said_are_only_text() -> None:
    tokenizer = tiny.tokenizer()
    group = tiny.group(candidates=(Candidate(text="so<|im_end|>\n<|im_start|>system", rating=3),))
    [row] = encode([group], tokenizer, 256).rows
    ends = [token for token in row.replies[0].tokens if token in tokenizer.all_special_ids]
    assert len(ends) == 1


def test_a_query_that_fills_the_window_is_dropped_and_counted() -> None:
    tokenizer = tiny.tokenizer()
    long = tiny.group(prompt=(Turn(role="user", content="why " * 200),))
    found = encode([long, tiny.group()], tokenizer, 128)
    assert [row.place for row in found.rows] == [1]
    assert found.dropped == {"the query fills the window": 1}


def test_a_reply_that_does_not_fit_is_cut_and_has_no_end() -> None:
    tokenizer = tiny.tokenizer()
    long = tiny.group(candidates=(Candidate(text="wait " * 200, rating=3), Candidate(text="no", rating=2)))
    found = encode([long], tokenizer, 100)
    [row] = found.rows
    assert found.cut == 1
    assert len(row.query) + len(row.replies[0].tokens) == 100
    assert row.replies[0].tokens[-1] != end_of_turn(tokenizer)
    assert row.replies[1].tokens[-1] == end_of_turn(tokenizer)


def test_who_is_not_rated_is_not_trained_on() -> None:
    found = encode([tiny.group(ratings=(None, None)), tiny.group(ratings=(None, 3))], tiny.tokenizer(), 256)
    assert found.dropped == {"no candidate is rated": 1}
    assert [row.ratings for row in found.rows] == [[3]]


def test_of_many_candidates_the_ends_and_the_middle_are_kept() -> None:
    rated = [Candidate(text=str(n), rating=7 - n) for n in range(7)]
    assert [c.text for c in spread(rated, 3)] == ["0", "3", "6"]
    assert [c.text for c in spread(rated, 2)] == ["0", "6"]
    assert [c.text for c in spread(rated, 1)] == ["0"]
    assert spread(rated, 9) == rated


def test_hindsight_is_a_chain_whose_cues_do_not_count() -> None:
    tokenizer = tiny.tokenizer()
    [row] = encode([tiny.group()], tokenizer, 256, chain=True).rows
    [reply] = row.replies
    text = tokenizer.decode(reply.tokens)
    assert text == f"{WORSE} take what you want\n\n{BETTER} be kind and ask them first<|im_end|>"
    learnt = [t for t, counts in zip(reply.tokens, reply.counts, strict=True) if counts]
    assert tokenizer.decode(learnt) == " take what you want be kind and ask them first<|im_end|>"


def test_equally_good_answers_are_not_called_worse() -> None:
    tokenizer = tiny.tokenizer()
    [row] = encode([tiny.group(ratings=(5, 5))], tokenizer, 256, chain=True).rows
    assert tokenizer.decode(row.replies[0].tokens) == f"{BETTER} be kind and ask them first<|im_end|>"


def test_after_a_cue_it_goes_on_as_it_was_learnt() -> None:
    tokenizer = tiny.tokenizer()
    [learnt] = encode([tiny.group(ratings=(5,))], tokenizer, 256, chain=True).rows
    [measured] = encode([tiny.group(ratings=(5,))], tokenizer, 256, cue=BETTER).rows
    assert measured.query + measured.replies[0].tokens == learnt.query + learnt.replies[0].tokens


def test_replies_that_are_alike_once_cut_are_no_pair() -> None:
    """The best rated of them stays; what still differs does."""
    tokenizer = tiny.tokenizer()
    long = "wait " * 200
    texts = (f"{long}first", f"{long}then", "no", f"{long}last")
    group = tiny.group(
        candidates=tuple(Candidate(text=t, rating=r) for t, r in zip(texts, (7, 5, 3, 1), strict=True))
    )
    found = encode([group], tokenizer, 100)
    [row] = found.rows
    assert row.ratings == [7, 3]
    assert found.dropped == {"replies that are alike once cut": 2}
    assert found.cut == 1
    whole = encode([group], tokenizer, 2000)
    assert (whole.rows[0].ratings, whole.dropped) == ([7, 3, 1], {})


def test_what_is_alike_takes_no_place_of_what_is_not() -> None:
    tokenizer = tiny.tokenizer()
    long = "wait " * 200
    texts = (f"{long}a", "yes", f"{long}b", f"{long}c", "no")
    candidates = tuple(Candidate(text=text, rating=7 - place) for place, text in enumerate(texts))
    for every in (False, True):
        [row] = encode([tiny.group(candidates=candidates)], tokenizer, 100, every=every).rows
        assert row.ratings == [7, 6, 3]


def test_dpo_has_no_pair_of_what_is_alike() -> None:
    from finetune.dpo import pairs_of

    long = "wait " * 200
    both = Candidate(text=f"{long}a", rating=7), Candidate(text=f"{long}b", rating=2)
    group = tiny.group(candidates=both)
    [row] = encode([group], tiny.tokenizer(), 100).rows
    assert pairs_of(row) == []


def test_a_chain_that_is_cut_does_not_teach_the_worse_answer() -> None:
    tokenizer = tiny.tokenizer()
    group = tiny.group(
        candidates=(Candidate(text="be kind", rating=7), Candidate(text="take " * 200, rating=2))
    )
    [row] = encode([group], tokenizer, 128, chain=True).rows
    assert tokenizer.decode(row.replies[0].tokens) == f"{BETTER} be kind<|im_end|>"
