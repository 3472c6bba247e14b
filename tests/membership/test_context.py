from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import processors

from audit.errors import DataError, InputError, ModelError
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode
from audit.membership import context as context_module
from audit.membership.context import score_in_context
from audit.membership.joined import join
from audit.membership.score import score_texts

KINDS = ["byte_level", "sentencepiece", "without_bos"]
TEXTS = ["the cat sat", "dog", " and the dog", "s ran", "\r\nthe 東 hill", "</s> <s>"]
NAMES = list("abcdef")
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(" theca\r\n"), max_size=12)
slow_to_build = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(params=KINDS)
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    model: LanguageModel = request.getfixturevalue(request.param)
    return model


def oracle(lm: LanguageModel, context: str, text: str) -> np.ndarray:
    """Log-probabilities of the tokens that hold a character of the text, from one plain pass of context + text."""
    encoded = lm.tokenizer(
        context + text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    lead = [] if lm.bos_id is None else [lm.bos_id]
    ids = torch.tensor([[*lead, *encoded["input_ids"]]])
    with torch.no_grad():
        log_p = lm.model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
    chosen = log_p.gather(1, ids[0, 1:, None])[:, 0].numpy()
    mine = [stop > len(context) for _, stop in encoded["offset_mapping"]]
    return chosen[mine if lead else mine[1:]]


def test_scores_agree_with_a_plain_pass_over_context_and_text(lm: LanguageModel) -> None:
    contexts = ["the cat ran on the ", "the cat ran on the hill ", "", "the cat", "on the mat.", "the dog "]
    found = score_in_context(lm, contexts, TEXTS, ids=NAMES).scores
    for place, (context, text) in enumerate(zip(contexts, TEXTS, strict=True)):
        if lm.bos_id is None and not context and len(encode(lm, [text])[0]) < 2:
            continue
        expected = oracle(lm, context, text)
        assert found.n_tokens[place] == len(expected)
        assert found.loss[place] == pytest.approx(-expected.mean(), abs=1e-4)


def test_without_context_the_scores_are_those_of_the_texts_alone(lm: LanguageModel) -> None:
    texts = [text for text in TEXTS if text != "dog"]  # a single token, which no tokenizer without a first token scores
    names = NAMES[: len(texts)]
    found = score_in_context(lm, [""] * len(texts), texts, ids=names)
    expected = score_texts(lm, texts, ids=names)
    for field in dataclasses.fields(expected):
        np.testing.assert_allclose(getattr(found.scores, field.name), getattr(expected, field.name), atol=1e-4)
    assert [found.n_context.any(), found.n_cut.any(), found.straddles.any()] == [False] * 3


def test_a_shared_context_is_computed_once_and_changes_no_value(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the context's last word grows together with a text ("cat" + "s ran"), one token less is shared."""
    shared = "the dog and the cat sat on the mat and the dog sat on the hill and the cat sat on the cat"
    contexts = [shared] * 4 + ["the hill"] * 2
    real, calls = context_module.token_log_probs, []

    def counted(lm: LanguageModel, sequences: list[list[int]], **named: object) -> object:
        calls.append((len(named["prefix"]), len(sequences)))  # type: ignore[arg-type]
        return real(lm, sequences, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(context_module, "token_log_probs", counted)
    found = score_in_context(lm, contexts, TEXTS, ids=NAMES)
    n_lead = 0 if lm.bos_id is None else 1
    assert calls[1:] == [(n_lead, 2)]
    assert calls[0][0] >= found.n_context[:4].min() - 1 + n_lead
    assert calls[0][1] == 4
    for place, text in enumerate(TEXTS):
        alone = score_in_context(lm, contexts[place : place + 1], [text], ids=["x"])
        assert found.scores.loss[place] == pytest.approx(alone.scores.loss[0], abs=1e-4)
        assert found.scores.min_k_plus_plus[place] == pytest.approx(alone.scores.min_k_plus_plus[0], abs=1e-3)
        assert found.n_context[place] == alone.n_context[0]


def test_texts_whose_tokens_part_early_from_the_context_are_run_whole(sentencepiece: LanguageModel) -> None:
    """Two texts keep all 31 shared tokens; the third's differ from the first one on."""
    context = "the cat sat " * 10
    groups = context_module._sharing(
        sentencepiece,
        [
            context_module._Placed(context, [*encode(sentencepiece, [context])[0], 5], 31, 0),
            context_module._Placed(context, [*encode(sentencepiece, [context])[0], 6], 31, 0),
            context_module._Placed(context, [9] * 40, 31, 0),
        ],
    )
    (shared, near), (nothing, alone) = groups
    assert (near, nothing, alone) == ([0, 1], [], [2])
    assert shared == encode(sentencepiece, [context])[0][:31]


def test_a_token_across_the_boundary_is_the_texts(byte_level: LanguageModel) -> None:
    (joined,) = join(byte_level, ["the c"], ["at sat"])
    tokens = byte_level.tokenizer.convert_ids_to_tokens(joined.ids)
    assert tokens[joined.n_before :] == ["Ġcat", "Ġsat"]
    assert joined.straddles
    scores = score_in_context(byte_level, ["the c"], ["at sat"], ids=["a"])
    assert (scores.scores.n_tokens.tolist(), scores.n_context.tolist()) == ([2], [1])
    assert scores.straddles.tolist() == [True]


@slow_to_build
@given(context=ANY_TEXT, text=ANY_TEXT)
@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
def test_the_texts_tokens_are_those_that_hold_its_characters(
    kind: str, context: str, text: str, request: pytest.FixtureRequest
) -> None:
    """Tokens before the boundary decode to what the context begins with; joined, they are those of one string."""
    lm: LanguageModel = request.getfixturevalue(kind)
    (joined,) = join(lm, [context], [text])
    assert joined.ids == encode(lm, [context + text])[0]
    if not context:
        assert joined.n_before == 0
    elif not text:
        assert joined.n_before == len(joined.ids)
    else:
        assert joined.n_before < len(joined.ids)
    before = lm.tokenizer.decode(joined.ids[: joined.n_before], clean_up_tokenization_spaces=False)
    whole = lm.tokenizer.decode(joined.ids, clean_up_tokenization_spaces=False)
    assert whole.startswith(before)
    assert len(before) <= len(context)
    if not joined.straddles and text:
        assert before == whole[: len(context)]


def test_white_space_that_a_tokenizer_trims_off_its_offsets_still_belongs_to_the_text(
    byte_level: LanguageModel,
) -> None:
    """GPT-2's post-processor calls the token " " at the end of a string empty; it is the text's all the same."""
    tokenizer = byte_level.tokenizer.__class__(
        tokenizer_object=byte_level.tokenizer.backend_tokenizer.__class__.from_str(
            byte_level.tokenizer.backend_tokenizer.to_str()
        ),
        bos_token="<s>",
    )
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trimmed = dataclasses.replace(byte_level, tokenizer=tokenizer)
    assert join(trimmed, ["the "], [" \n"]) == join(byte_level, ["the "], [" \n"])
    assert join(trimmed, ["the cat"], [" sat"]) == join(byte_level, ["the cat"], [" sat"])


def test_a_context_that_is_too_long_is_cut_on_the_left_and_recorded(lm: LanguageModel) -> None:
    long = "the dog ran over the hill " * 60
    n_lead = 0 if lm.bos_id is None else 1
    found = score_in_context(lm, [long, long], ["the cat", "the cat sat on the mat"], ids=["a", "b"])
    assert (found.n_context + found.scores.n_tokens == lm.n_context - n_lead).all()
    (joined,) = join(lm, [long], ["the cat"])
    assert found.n_cut[0] == joined.n_before - found.n_context[0]
    kept = [*([] if lm.bos_id is None else [lm.bos_id]), *joined.ids[found.n_cut[0] :]]
    with torch.no_grad():
        log_p = lm.model(input_ids=torch.tensor([kept])).logits[0, :-1].double().log_softmax(-1)
    chosen = log_p.gather(1, torch.tensor(kept)[1:, None])[:, 0]
    assert found.scores.loss[0] == pytest.approx(-float(chosen[-int(found.scores.n_tokens[0]) :].mean()), abs=1e-4)


def test_max_context_keeps_the_last_tokens(byte_level: LanguageModel) -> None:
    context = "the dog ran over the hill and the"
    found = score_in_context(byte_level, [context] * 2, [" cat", " cat sat"], ids=["a", "b"], max_context=2)
    expected = score_in_context(byte_level, [" and the"] * 2, [" cat", " cat sat"], ids=["a", "b"])
    assert found.n_context.tolist() == [2, 2]
    np.testing.assert_allclose(found.scores.loss, expected.scores.loss, atol=1e-4)


def test_no_context_at_all_is_asked_for_by_zero(byte_level: LanguageModel) -> None:
    found = score_in_context(byte_level, ["the dog"] * 2, [" cat", " hill"], ids=["a", "b"], max_context=0)
    np.testing.assert_allclose(
        found.scores.loss, score_texts(byte_level, [" cat", " hill"], ids=["a", "b"]).loss, atol=1e-4
    )


def test_bad_input_is_named(byte_level: LanguageModel) -> None:
    with pytest.raises(InputError, match="1 contexts, 2 texts and 2 ids"):
        score_in_context(byte_level, [""], ["a", "b"], ids=["a", "b"])
    with pytest.raises(InputError, match="max_context is -1; expected 0 or more"):
        score_in_context(byte_level, [""], ["a"], ids=["a"], max_context=-1)
    with pytest.raises(DataError, match="text 'b' has no token"):
        score_in_context(byte_level, ["the", "the"], ["cat", ""], ids=["a", "b"])
    with pytest.raises(DataError, match="text 'a' has 200 tokens.*at most 127, so no context fits"):
        score_in_context(byte_level, ["the"], [" cat" * 200], ids=["a"])


def test_a_tokenizer_that_tells_no_characters_is_refused(byte_level: LanguageModel) -> None:
    class Slow:
        is_fast = False

    slow = dataclasses.replace(byte_level, tokenizer=Slow())  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="does not tell which characters a token holds.*tokenizer.json"):
        score_in_context(slow, ["the"], ["cat"], ids=["a"])


def test_a_tokenizer_with_rules_beside_its_file_is_refused(byte_level: LanguageModel) -> None:
    class Own:
        is_fast = True
        backend_tokenizer = byte_level.tokenizer.backend_tokenizer

        def __call__(self, texts: list[str], **named: object) -> object:
            return byte_level.tokenizer([text.replace("c", "k") for text in texts], **named)

    own = dataclasses.replace(byte_level, tokenizer=Own())  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="cuts texts otherwise than its tokenizer.json says"):
        score_in_context(own, ["the"], ["cat"], ids=["a"])
