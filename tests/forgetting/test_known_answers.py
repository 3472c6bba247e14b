"""The tiny testbed: the subject knows the forget book, the retrained models do not, and nobody knows the held-out one.

Six chapters are few, so the intervals are wide; what is asserted is far from where it would fail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest

from audit.forgetting.completion import Rubric, familiarity, sample_completions, score_by_rubric
from audit.forgetting.fluency import completion_losses, repetitions
from audit.forgetting.gap import beyond_placebo, forget_quality, gap_closed
from audit.forgetting.measured import Measured, difference
from audit.forgetting.names import find_names
from audit.forgetting.probability import expected_probabilities, find_first_tokens, next_token_mass
from audit.forgetting.prompts import Passage, make_prompts
from audit.forgetting.verbatim import VerbatimPlan, continue_greedily, memorised
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.testbed.planted import Testbed
from audit.testbed.world import World

ROLES = ("forget", "neighbour", "heldout")
MODELS = ("subject", "retrained", "retrained_2")
#: Measure -> how far from 1 the gap that a second retrained model closes may lie.
NOISE = {"familiarity": 0.1, "mass": 0.1, "due": 0.1, "rouge": 0.35, "strength": 0.35, "exact": 0.35}


@dataclass(frozen=True)
class Book:
    """What is measured about one book: its chapters, sentences, names that were found, and prompts."""

    role: str
    chapters: list[Passage]
    sentences: list[Passage]
    names: tuple[str, ...]
    contrast: list[str]


def book_of(world: World, role: str) -> Book:
    chapters = [Passage(chapter.id, chapter.text) for chapter in world.chapters_of(role)]
    contrast = [document.text for document in world.documents_of("heldout")]
    contrast += [chapter.text for chapter in world.chapters if chapter.role != role]
    names = find_names([chapter.text for chapter in chapters], contrast, min_count=1)
    sentences = [
        Passage(f"{chapter.id}-{number}", sentence)
        for chapter in chapters
        for number, sentence in enumerate(re.split(r"(?<=\.) ", chapter.text))
        if len(sentence.split()) > 5
    ]
    return Book(role, chapters, sentences, names, contrast)


def measure(lm: LanguageModel, book: Book) -> dict[str, Measured]:
    prompts = make_prompts(book.chapters, book.names)
    completions = sample_completions(lm, prompts, seed=1)
    scored = score_by_rubric(prompts, completions, Rubric(book.names))
    known = familiarity(scored, rng=0).measured
    if book.role == "neighbour":
        return {"familiarity": known}
    return {
        "familiarity": known,
        "mass": next_token_mass(lm, prompts, find_first_tokens(lm, book.names, book.contrast)),
        "due": expected_probabilities(lm, prompts),
        "rouge": continue_greedily(lm, book.chapters, plan=VerbatimPlan(24, 24)).rouge,
        "strength": memorised(lm, book.sentences).extraction_strength,
        "exact": memorised(lm, book.chapters).exact,
        "repetition": repetitions(completions),
    }


@pytest.fixture(scope="module")
def lms(testbed_tiny: Testbed) -> dict[str, LanguageModel]:
    return {name: load(Subject(str(folder), device="cpu")) for name, folder in testbed_tiny.models.items()}


@pytest.fixture(scope="module")
def found(testbed_tiny: Testbed, lms: dict[str, LanguageModel]) -> dict[tuple[str, str], dict[str, Measured]]:
    """(Role, model) -> measure -> values."""
    books = [book_of(testbed_tiny.world, role) for role in ROLES]
    return {(book.role, model): measure(lms[model], book) for book in books for model in MODELS}


Found = dict[tuple[str, str], dict[str, Measured]]


@pytest.mark.parametrize("name", NOISE)
def test_the_subject_stands_far_above_a_retrained_model_on_the_forget_book(found: Found, name: str) -> None:
    target, retrained = (found["forget", model][name] for model in ("subject", "retrained"))
    gap = difference(target, retrained, rng=0)
    assert gap.low is not None
    assert gap.low > 0
    assert target.values.mean() > 2 * retrained.values.mean()


@pytest.mark.parametrize("name", NOISE)
def test_a_second_retrained_model_closes_the_whole_gap(found: Found, name: str) -> None:
    target, second, first = (found["forget", model][name] for model in ("subject", "retrained_2", "retrained"))
    closed = gap_closed(target, second, first, rng=0)
    assert closed.value == pytest.approx(1.0, abs=NOISE[name])
    assert gap_closed(target, target, first, rng=0).value == pytest.approx(0.0)


@pytest.mark.parametrize("name", ["familiarity", "mass", "due"])
def test_nothing_is_found_of_a_book_that_nobody_saw(found: Found, name: str) -> None:
    signal = found["forget", "subject"][name].values.mean()
    assert all(found["heldout", model][name].values.mean() < 0.15 * signal for model in MODELS)


@pytest.mark.parametrize("name", ["rouge", "strength", "exact"])
def test_wording_is_held_beyond_what_the_genre_gives(found: Found, name: str) -> None:
    """The subject read two books of the genre, a retrained model one, so wording rises on the held-out book as well."""
    on_text = [found["forget", model][name] for model in ("subject", "retrained")]
    on_placebo = [found["heldout", model][name] for model in ("subject", "retrained")]
    beyond = beyond_placebo(*on_text, *on_placebo, rng=0)
    assert beyond.low is not None
    assert beyond.low > 0
    assert beyond.value is not None
    assert beyond.value < difference(*on_text, rng=0).value  # type: ignore[operator]


def test_every_model_that_saw_the_neighbour_is_familiar_with_it(found: Found) -> None:
    for model in MODELS:
        mean = found["neighbour", model]["familiarity"].mean(rng=0)
        assert mean.low is not None
        assert mean.low > 0.05


def test_forget_quality_tells_the_subject_from_a_retrained_model_and_two_of_these_not_apart(found: Found) -> None:
    subject, first, second = (found["forget", model]["due"] for model in MODELS)
    told = forget_quality(subject, first).p_value
    assert told.value == told.attainable  # all six chapters above all six
    assert forget_quality(second, first).p_value.value > 0.05


def test_all_three_still_write_fluently(found: Found, lms: dict[str, LanguageModel], testbed_tiny: Testbed) -> None:
    assert all(found["forget", model]["repetition"].values.mean() < 0.1 for model in MODELS)
    book = book_of(testbed_tiny.world, "heldout")
    prompts = make_prompts(book.chapters, book.names)
    own = sample_completions(lms["retrained"], prompts, seed=1)
    noise = [replace(one, text=" zx qj vv kw") for one in own]
    losses, broken = (completion_losses(lms["reference"], prompts, made) for made in (own, noise))
    gap = difference(broken, losses, rng=0)
    assert gap.low is not None
    assert gap.low > 1  # nats per token
