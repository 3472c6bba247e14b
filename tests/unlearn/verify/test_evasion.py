"""Getting past a guard: what passes, what is known of it, and what cannot be asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from audit.answers.formats import Prompt, messages_of
from audit.answers.rewordings import Attack, attacks, encodings
from audit.answers.rows import QaRow
from audit.errors import InputError
from tests.unlearn.eco.evaluate.small_systems import Told
from unlearn.verify.robustness.evasion import evade

ROWS = [QaRow(str(place), f"author {place // 2}", f"Who is Zorbla {place}?", "the cat") for place in range(6)]


class Stops(Told):
    """A guard that stops what holds the name in plain letters."""

    def flagged(self, prompts: Sequence[Prompt]) -> NDArray[np.bool_]:
        return np.array(["Zorbla" in messages_of(prompt)[-1]["content"] for prompt in prompts], dtype=np.bool_)


def of(*names: str) -> list[Attack]:
    return [one for one in (*attacks(), *encodings()) if one.name in names]


def test_a_leak_is_what_passes_times_what_is_known() -> None:
    """Untouched: all stopped. Letters apart: all pass, p = exp(-1.5), the leak too; a stopped row leaks 0."""
    system = Stops(log_probs=lambda prompt, answer: [-1.0, -2.0], said=lambda _: "a cat")
    plain, apart = evade(system, ROWS, of("untouched", "letters apart"), seed=0, answers=True)
    assert plain.passing.values.tolist() == [0.0] * 6
    assert plain.leak.values.tolist() == [0.0] * 6
    assert not len(plain.known.values)
    assert set(plain.known.left_out.values()) == {"the system stops it"}
    assert apart.passing.values.tolist() == [1.0] * 6
    assert apart.leak.values == pytest.approx(np.exp(-1.5))
    assert apart.rouge is not None
    assert apart.rouge.values == pytest.approx(0.5)
    share = plain.passing.mean(rng=0)
    assert share.n == 3  # clusters
    assert share.high == pytest.approx(1 - 0.025 ** (1 / 3))


def test_a_bare_model_stops_nothing() -> None:
    (found,) = evade(Told(), ROWS, of("untouched"), seed=0)
    assert found.leak.values == pytest.approx(np.exp(-1))
    assert found.known.values == pytest.approx(np.exp(-1))


def test_what_cannot_be_asked_is_told() -> None:
    (nothing,) = evade(Told(), ROWS, of("translation"), seed=0)
    assert set(nothing.passing.left_out.values()) == {"no translations were given"}
    assert nothing.leak.mean(rng=0).value is None

    class NoTurns(Told):
        def flagged(self, prompts: Sequence[Prompt]) -> NDArray[np.bool_]:
            raise InputError("this format takes a single user's text")

    (turns,) = evade(NoTurns(), ROWS, of("split over two turns"), seed=0)
    assert "takes a single user's text" in turns.passing.left_out["0"]

    class Short(Told):
        """Row 1 is too long for it, whatever else it is asked with."""

        def log_probs(
            self, prompts: Sequence[Prompt], answers: Sequence[str], **_: object
        ) -> list[NDArray[np.float64]]:
            if any("Zorbla 1" in messages_of(prompt)[-1]["content"] for prompt in prompts):
                raise InputError("prompt 0 has 572 tokens")
            return [np.array([-1.0]) for _ in prompts]

    (short,) = evade(Short(), ROWS, of("untouched"), seed=0)
    assert short.leak.ids == ("0", "2", "3", "4", "5")
    assert short.leak.left_out == {"1": "the system does not take it: prompt 0 has 572 tokens"}
    with pytest.raises(InputError, match="no forget rows"):
        evade(Told(), [], of("untouched"), seed=0)
