"""The losses: against values worked out by hand, and at their edges."""

from __future__ import annotations

import math

import pytest
import torch

from finetune.loss import best_candidate, rrhf, stable_alignment

NAN = math.nan


def weighed(losses: list[list[float]], ratings: list[list[float]], **options: object) -> torch.Tensor:
    points = torch.full((len(losses),), 7.0)
    return stable_alignment(torch.tensor(losses), torch.tensor(ratings), points, **options).loss  # type: ignore[arg-type]


def test_the_loss_is_the_formula() -> None:
    # b is the second. Terms: 1 − 2 + (7 − 2)/7 = −0.2857…, 1 − 0.5 + (7 − 5)/7 = 0.7857…; their mean 0.25.
    loss = weighed([[2.0, 1.0, 0.5]], [[2.0, 7.0, 5.0]])
    assert loss.item() == pytest.approx(1.0 + 0.2 * 0.25)
    assert weighed([[2.0, 1.0, 0.5]], [[2.0, 7.0, 5.0]], flow="max").item() == pytest.approx(
        1.0 + 0.2 * (0.5 + 2 / 7)
    )
    assert weighed([[2.0, 1.0, 0.5]], [[2.0, 7.0, 5.0]], ratio=1.0, margin=10.0).item() == pytest.approx(
        1.0 + (-0.5 + 10 * 7 / 7) / 2
    )


def test_margins_belong_to_their_candidates() -> None:
    """Of ratings 2, 7, 5 the lesser ones are 5 and 2 away; by places in sorted order it would be 0 and 5."""
    losses = torch.tensor([[9.0, 1.0, 1.0]], requires_grad=True)
    apart = stable_alignment(losses, torch.tensor([[2.0, 7.0, 5.0]]), torch.tensor([7.0]), flow="max")
    # Only the third can flow: 1 − 1 + 2/7; the first is 1 − 9 + 5/7.
    assert apart.penalty.item() == pytest.approx(2 / 7)
    means = stable_alignment(
        torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([[2.0, 7.0, 5.0]]), torch.tensor([7.0])
    )
    assert means.penalty.item() == pytest.approx((5 / 7 + 2 / 7) / 2)


def test_any_number_of_groups_makes_a_batch() -> None:
    both = weighed([[2.0, 1.0, 0.5], [3.0, 1.0, 0.0]], [[2.0, 7.0, 5.0], [6.0, 1.0, NAN]])
    first = weighed([[2.0, 1.0, 0.5]], [[2.0, 7.0, 5.0]])
    second = weighed([[3.0, 1.0]], [[6.0, 1.0]])
    assert both.tolist() == pytest.approx([first.item(), second.item()])


def test_one_candidate_is_plain_fine_tuning() -> None:
    assert weighed([[1.5]], [[3.0]]).item() == 1.5


def test_equal_ratings_leave_the_losses_difference() -> None:
    # Of equals the first is b; the other's margin is 0.
    assert weighed([[1.0, 3.0]], [[4.0, 4.0]]).item() == 1.0
    assert weighed([[3.0, 1.0]], [[4.0, 4.0]]).item() == pytest.approx(3.0 + 0.2 * 2.0)


def test_who_is_not_rated_takes_no_part() -> None:
    losses = torch.tensor([[1.0, 50.0, 2.0]], requires_grad=True)
    told = stable_alignment(losses, torch.tensor([[7.0, NAN, 5.0]]), torch.tensor([7.0]))
    told.loss.sum().backward()
    assert losses.grad is not None
    assert losses.grad[0, 1] == 0
    assert told.loss.item() == weighed([[1.0, 2.0]], [[7.0, 5.0]]).item()


@pytest.mark.parametrize("method", ["stable", "sft", "rrhf"])
def test_a_group_that_nobody_rated_gives_nothing(method: str) -> None:
    losses = torch.tensor([[1.0, 2.0], [1.0, 2.0]], requires_grad=True)
    ratings = torch.tensor([[NAN, NAN], [6.0, 2.0]])
    told = {
        "stable": lambda: stable_alignment(losses, ratings, torch.tensor([7.0, 7.0])),
        "sft": lambda: best_candidate(losses, ratings),
        "rrhf": lambda: rrhf(losses, ratings),
    }[method]()
    told.loss.sum().backward()
    assert told.loss[0] == 0
    assert losses.grad is not None
    assert losses.grad[0].tolist() == [0, 0]
    assert torch.isfinite(losses.grad).all()


def test_gradients_push_the_lesser_away_only_while_they_are_near() -> None:
    near = torch.tensor([[1.0, 1.1]], requires_grad=True)
    stable_alignment(near, torch.tensor([[7.0, 1.0]]), torch.tensor([7.0])).loss.sum().backward()
    far = torch.tensor([[1.0, 5.0]], requires_grad=True)
    stable_alignment(far, torch.tensor([[7.0, 1.0]]), torch.tensor([7.0])).loss.sum().backward()
    assert near.grad is not None
    assert far.grad is not None
    assert near.grad.tolist() == [[pytest.approx(1.2), pytest.approx(-0.2)]]
    assert far.grad.tolist() == [[1.0, 0.0]]


def test_rrhf_adds_what_is_ranked_wrong() -> None:
    # p = −losses. Wrongly ranked pairs: 5 under 7 by 0.5, 2 above 7 and 5 by nothing.
    told = rrhf(torch.tensor([[2.0, 1.0, 0.5]]), torch.tensor([[2.0, 7.0, 5.0]]))
    assert told.loss.item() == pytest.approx(1.0 + 0.5)
    assert rrhf(torch.tensor([[2.0, 1.0]]), torch.tensor([[7.0, 7.0]])).penalty.item() == 0


def test_fine_tuning_takes_the_best() -> None:
    assert best_candidate(torch.tensor([[2.0, 1.0]]), torch.tensor([[3.0, NAN]])).loss.item() == 2.0


def test_each_term_flows_by_itself() -> None:
    # Terms of the second: 1 − 2 + 5/7 < 0 and 1 − 0.5 + 2/7; their mean is less than what each gives alone.
    one = weighed([[2.0, 1.0, 0.5]], [[2.0, 7.0, 5.0]], flow="each")
    assert one.item() == pytest.approx(1.0 + 0.2 * (0.5 + 2 / 7))
    both = weighed([[1.5, 1.0, 0.5]], [[2.0, 7.0, 5.0]], flow="each")
    assert both.item() == pytest.approx(1.0 + 0.2 * (1 - 1.5 + 5 / 7 + 0.5 + 2 / 7))
    # The paper's and its code's differ where a term is below 0.
    assert weighed([[9.0, 1.0, 0.5]], [[2.0, 7.0, 5.0]]).item() == 1.0
    assert weighed([[9.0, 1.0, 0.5]], [[2.0, 7.0, 5.0]], flow="each").item() > 1.1
