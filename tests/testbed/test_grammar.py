from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import InputError
from audit.testbed.grammar import Dice, fill, polish
from audit.testbed.names import NameMaker


def test_the_stream_of_a_seed_never_changes() -> None:
    dice = Dice(0, "test", 1)
    assert [dice.below(1000) for _ in range(5)] == [729, 812, 539, 733, 686]


def test_streams_with_other_seeds_or_labels_differ() -> None:
    draws = {tuple(Dice(*name).below(1000) for _ in range(1)) for name in [(0, "a"), (1, "a"), (0, "b")]}
    long = [tuple(dice.below(1000) for _ in range(4)) for dice in (Dice(0, "a"), Dice(1, "a"), Dice(0, "b"))]
    assert len(set(long)) == 3
    assert all(0 <= draw[0] < 1000 for draw in draws)


@given(st.lists(st.integers(), max_size=30), st.integers(0, 5))
def test_shuffling_keeps_every_item(items: list[int], seed: int) -> None:
    assert sorted(Dice(seed, "shuffle").shuffled(items)) == sorted(items)


def test_shuffling_reaches_every_order_about_equally_often() -> None:
    dice = Dice(3, "orders")
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(6000):
        order = tuple(dice.shuffled((0, 1, 2)))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 6
    assert all(abs(count - 1000) < 120 for count in counts.values())  # 4 standard deviations of 28.9


def test_slots_are_filled_from_bound_words_before_rules_and_to_any_depth() -> None:
    rules = {"greeting": ("{hello}, {name}!",), "hello": ("Hello",), "name": ("nobody",)}
    assert fill("{greeting}", Dice(0, "x"), rules, {"name": "Ada"}) == "Hello, Ada!"


def test_an_unknown_slot_is_named() -> None:
    with pytest.raises(InputError, match=r'slot \{colour\} in "a \{colour\} hat" is neither bound nor a rule'):
        fill("a {colour} hat", Dice(0, "x"), {})


def test_sampling_more_than_there_is_is_refused() -> None:
    with pytest.raises(InputError, match="4 different items were asked for, but there are only 3"):
        Dice(0, "x").sample((1, 2, 3), 4)


@pytest.mark.parametrize(
    ("rough", "mended"),
    [
        ("a apple fell. it broke", "An apple fell. It broke"),
        ('"who?" asked Ada. nobody spoke.', '"Who?" asked Ada. Nobody spoke.'),
        ("a bear", "A bear"),
    ],
)
def test_articles_and_capitals_are_mended(rough: str, mended: str) -> None:
    assert polish(rough) == mended


def test_no_name_is_given_twice_and_none_is_a_word_to_avoid() -> None:
    first = NameMaker(Dice(0, "names"))
    given_names = [first.first_name() for _ in range(400)]
    second = NameMaker(Dice(0, "names"), avoid={name.lower() for name in given_names[:200]})
    others = [second.first_name() for _ in range(200)]
    assert len(set(given_names)) == 400
    assert not set(others) & set(given_names[:200])


def test_running_out_of_names_is_an_error_and_no_endless_loop() -> None:
    maker = NameMaker(Dice(0, "names"))

    def exhaust() -> None:
        for _ in range(20_000):
            maker.place()

    with pytest.raises(InputError, match="no new place name in 1,000 tries; .* Build a smaller world"):
        exhaust()
