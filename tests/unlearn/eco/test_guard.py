"""The guard: what it corrupts and what it leaves, to the bit; several messages; files and the model that they fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from audit.answers.formats import PromptFormat
from audit.answers.systems import Bare
from audit.errors import DataError, IncompleteRunError, InputError, ModelError
from audit.lm.load import LanguageModel, load
from tests.unlearn.eco.serve.small_guard import PROMPTS, Dogs, guard_of, load_small
from unlearn.eco import guard_files
from unlearn.eco.corruptions import Corruption
from unlearn.eco.guard import EcoGuard, GuardSettings
from unlearn.eco.guard_files import GuardRecord, fingerprint_of, load_guard, read_guard
from unlearn.eco.judge import KEY_VARIABLE, Judge, noise_key
from unlearn.eco.selection import NameMatcher

KEY = b"sixteen bytes ok"
FLAGGED = [False, True, False, True, False]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_small(tmp_path_factory.mktemp("guard") / "llama")


@pytest.fixture(scope="module")
def guard(lm: LanguageModel) -> EcoGuard:
    return guard_of(lm)


@torch.no_grad()
def test_clean_rows_are_the_bare_models_to_the_bit_and_flagged_ones_are_not(lm: LanguageModel, guard: EcoGuard) -> None:
    bare = Bare(lm, guard.form)
    before, after = (one.forward(one.prepare(PROMPTS)).logits for one in (bare, guard))
    assert [not torch.equal(x, y) for x, y in zip(before, after, strict=True)] == FLAGGED
    assert guard.flagged(PROMPTS).tolist() == FLAGGED
    for method in ("answers", "log_probs", "option_logits"):
        given = {
            "answers": {"max_new_tokens": 8},
            "log_probs": {"answers": [" hill"] * 5},
            "option_logits": {"options": ["cat", "mat"]},
        }
        mine, theirs = (getattr(one, method)(PROMPTS, **given[method]) for one in (bare, guard))
        same = [bool(np.all(np.asarray(x) == np.asarray(y))) for x, y in zip(mine, theirs, strict=True)]
        assert all(one for one, flagged in zip(same, FLAGGED, strict=True) if not flagged), method
        assert not all(same), method


@torch.no_grad()
def test_nothing_is_changed_by_a_closed_gate_or_by_strength_0(lm: LanguageModel, guard: EcoGuard) -> None:
    bare = Bare(lm, guard.form)
    clean = [text for text, flagged in zip(PROMPTS, FLAGGED, strict=True) if not flagged]
    assert torch.equal(bare.forward(bare.prepare(clean)).logits, guard.forward(guard.prepare(clean)).logits)
    weak = guard.with_corruption(Corruption(strength=0.0, dims=8))
    assert torch.equal(bare.forward(bare.prepare(PROMPTS)).logits, weak.forward(weak.prepare(PROMPTS)).logits)


def test_sampling_of_clean_rows_does_not_notice_the_guard(lm: LanguageModel, guard: EcoGuard) -> None:
    said = []
    for one in (Bare(lm, guard.form), guard):
        torch.manual_seed(3)
        said.append(one.generate(one.prepare(PROMPTS), do_sample=True, max_new_tokens=6, pad_token_id=2))
    same = [bool(torch.equal(x, y)) for x, y in zip(*said, strict=True)]
    assert [one for one, flagged in zip(same, FLAGGED, strict=True) if not flagged] == [True] * 3
    assert not any(module._forward_hooks for module in lm.model.modules())


def test_masks_hit_the_flagged_message_alone(guard: EcoGuard) -> None:
    talk = [
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": "mat"},
        {"role": "user", "content": "my dog"},
        {"role": "assistant", "content": "hill"},
        {"role": "user", "content": "a dog too"},
    ]
    prepared = guard.prepare([talk, "the cat"])
    assert len(prepared.layers) == 2
    encoded = prepared.encoded[0]
    width = prepared.input_ids.shape[1]
    for (mask, seeds), owner in zip(prepared.layers, (2, 4), strict=True):
        expected = torch.zeros(width, dtype=torch.bool)
        expected[width - len(encoded.ids) :] = torch.from_numpy(encoded.owners == owner)
        assert torch.equal(mask[0], expected)
        assert not mask[1].any()
        assert seeds[0] is not None
        assert seeds[1] is None
    assert [turn.flagged for turn in prepared.verdicts[0].turns] == [False, False, True, False, True]


def test_scope_reaches_the_answer_where_it_is_asked_to(guard: EcoGuard) -> None:
    asked = guard.prepare(["the dog", "the cat"], answers=[" ran over", " sat"])
    (mask, _), n = asked.layers[0], asked.n_answer[0]
    assert not mask[0, -n:].any()
    wide = guard.prepare(["the dog", "the cat"], answers=[" ran over", " sat"], scope="prompt+answer")
    assert wide.layers[0][0][0, -n - 1 : -1].all()
    assert not wide.layers[0][0][0, -1]
    assert not wide.layers[0][0][1].any()
    narrow, far = (
        guard.log_probs(["the dog"], [" ran over the hill"], scope=scope)[0] for scope in ("prompt", "prompt+answer")
    )
    assert narrow[0] != far[0]  # the last token of the prompt is corrupted too
    with pytest.raises(InputError, match="scope"):
        guard.prepare(["a"], scope="answer")  # type: ignore[arg-type]


def test_names_alone_are_corrupted_where_they_stand(lm: LanguageModel) -> None:
    settings = GuardSettings("dogs", Corruption(strength=2.0, dims=8), "names")
    guard = EcoGuard(lm, Judge(Dogs(), 0.5, matcher=NameMatcher(["the dog"]), key=KEY), settings)
    prepared = guard.prepare(["over the dog ran", "a dog"])
    mask, _ = prepared.layers[0]
    one = prepared.encoded[0]
    chosen = mask[0, -len(one.ids) :].numpy()
    text = "".join(one.text[start:end] for start, end in one.offsets[chosen])
    assert text.strip() == "the dog"
    assert int(mask[1].sum()) == len(prepared.encoded[1].ids) - 1  # no listed name: all but the last
    with pytest.raises(InputError, match="no name to look for"):
        EcoGuard(lm, Judge(Dogs(), 0.5, key=KEY), settings)


def test_forced_noise_depends_on_seed_and_text_alone(guard: EcoGuard) -> None:
    alone = guard.forcing(1).prepare(["the cat"]).layers[0][1]
    assert guard.forcing(1).prepare(["the cat", "hill"]).layers[0][1][0] == alone[0]
    assert guard.forcing(2).prepare(["the cat"]).layers[0][1] != alone
    assert guard.forcing(1).prepare(["the cat", "hill"]).layers[0][0].any(dim=1).all()


def test_a_prompt_of_one_token_has_nothing_to_corrupt(lm: LanguageModel) -> None:
    guard = EcoGuard(
        lm,
        Judge(Dogs(), -1.0, key=KEY),
        GuardSettings("all", Corruption(strength=9.0, dims=8), format=PromptFormat("text")),
    )
    prepared = guard.prepare(["a"])
    assert prepared.input_ids.shape[1] == 2  # the BOS and the token
    assert prepared.layers[0][0].tolist() == [[True, False]]


def test_what_does_not_fit_is_refused_with_its_place(lm: LanguageModel, guard: EcoGuard) -> None:
    for prompts, message in ((["a", " "], "prompt 1"), ([], "no prompt"), (["a", "hill " * 200], "prompt 1 has")):
        with pytest.raises(InputError, match=message):
            guard.prepare(prompts)
        if prompts:
            with pytest.raises(InputError, match=message):
                guard.answers(prompts, max_new_tokens=2)
    with pytest.raises(InputError, match="prompt 0 has"):
        guard.answers(["hill"], max_new_tokens=1_000)
    with pytest.raises(InputError, match="answer 1 is empty"):
        guard.log_probs(["a", "b"], ["x", ""])
    with pytest.raises(InputError, match="begin with the same token"):
        guard.option_logits(["a"], ["cat sat", "cat ran"])
    with pytest.raises(InputError, match="dims"):
        guard.with_corruption(Corruption(strength=1.0, dims=33))


@pytest.mark.parametrize("method", ["answers", "log_probs"])
def test_memory_that_runs_out_halves_a_batch_with_its_corruption(
    lm: LanguageModel, guard: EcoGuard, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    given = {"answers": {"max_new_tokens": 4}, "log_probs": {"answers": [" hill"] * 5}}[method]
    expected = getattr(guard, method)(PROMPTS, **given)
    forward = lm.model.forward

    def tight(*args: object, **kwargs: torch.Tensor) -> object:
        if len(kwargs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(lm.model, "forward", tight)
    found = getattr(guard, method)(PROMPTS, **given)
    if method == "answers":
        assert found == expected
    else:
        np.testing.assert_allclose(np.array(found), np.array(expected), atol=1e-5)


def test_float16_refuses_a_strength_that_it_cannot_hold(lm: LanguageModel, tmp_path: Path) -> None:
    half = load_small(tmp_path / "half")
    half.model.half()
    with pytest.raises(InputError, match="float16"):
        guard_of(half).with_corruption(Corruption(strength=1e6, dims=1))
    guard_of(half).with_corruption(Corruption(strength=1e4, dims=1))


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(lm: LanguageModel, guard: EcoGuard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A guard's folder, with a classifier that needs no encoder."""

    def save(scorer: object, folder: Path) -> str:
        folder.mkdir()
        (folder / "classifier.json").write_text("{}")
        return "embedding"

    monkeypatch.setattr(guard_files, "save_scorer", save)
    monkeypatch.setattr(guard_files, "load_scorer", lambda folder, encoder=None, **_: Dogs())
    record = GuardRecord(
        dataclasses.replace(guard.settings, selection="names"), 0.5, ("the dog",), 0.9, "llama", fingerprint_of(lm)
    )
    guard_files.save_guard(record, Dogs(), tmp_path / "guard")
    return tmp_path / "guard"


def test_a_guard_comes_back_as_it_was(saved: Path, lm: LanguageModel) -> None:
    back = load_guard(saved, lm, key=KEY)
    assert back.settings == read_guard(saved).settings
    assert back.judge.matcher is not None
    assert back.judge.threshold == 0.5
    assert back.flagged(PROMPTS).tolist() == FLAGGED
    assert back.verdicts(["the dog"])[0].score == 2.0  # classifier and name


def test_a_guard_is_refused_on_another_model(saved: Path, tmp_path: Path) -> None:
    other = load_small(tmp_path / "other", "qwen2")
    with pytest.raises(ModelError, match=r"fitted for .*llama.* other weights"):
        load_guard(saved, other)


def test_a_guard_is_refused_with_another_classifier(saved: Path, lm: LanguageModel) -> None:
    """As a fit into the same folder leaves it that is killed between its classifier and its guard."""
    (saved / "classifier" / "classifier.json").write_text('{"of": "a later fit"}')
    with pytest.raises(DataError, match="is not the classifier that the guard"):
        load_guard(saved, lm)


def test_a_guard_that_flags_everything_is_not_kept_as_one_that_flags_nothing(guard: EcoGuard, tmp_path: Path) -> None:
    record = GuardRecord(guard.settings, -np.inf, (), 0.9, "llama", {})
    with pytest.raises(InputError, match="threshold is -inf"):
        guard_files.save_guard(record, Dogs(), tmp_path / "guard")


def test_damaged_folders_are_refused(saved: Path, lm: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(IncompleteRunError, match="holds no guard.json"):
        load_guard(tmp_path / "nothing", lm)
    path = saved / "guard.json"
    content = json.loads(path.read_text())
    for changes in (
        {"version": 9},
        {"threshold": "nan"},
        {"names": [3]},
        {"corruption": {"function": "x", "strength": 1, "dims": 1}},
        {"format": {"kind": "pdf"}},
    ):
        path.write_text(json.dumps(content | changes))
        with pytest.raises((DataError, InputError)):
            load_guard(saved, lm)
    path.write_text("[]")
    with pytest.raises(DataError, match="changed or damaged"):
        load_guard(saved, lm)


def test_the_noise_key_is_secret_and_long_enough(monkeypatch: pytest.MonkeyPatch, saved: Path) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "0123456789abcdef")
    assert noise_key() == b"0123456789abcdef"
    assert "0123456789abcdef" not in (saved / "guard.json").read_text()
    monkeypatch.setenv(KEY_VARIABLE, "short")
    with pytest.raises(InputError, match=KEY_VARIABLE):
        noise_key()
    monkeypatch.delenv(KEY_VARIABLE)
    assert noise_key() != noise_key()


def test_loaded_from_disk_the_model_gives_the_same(saved: Path, lm: LanguageModel) -> None:
    again = load(lm.subject)
    assert load_guard(saved, again, key=KEY).answers(PROMPTS, max_new_tokens=5) == load_guard(
        saved, lm, key=KEY
    ).answers(PROMPTS, max_new_tokens=5)
