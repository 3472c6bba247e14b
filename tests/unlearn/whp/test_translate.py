"""Translation and alignment: the map of every case by hand, and what holds for any text and tokenizer."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from audit.errors import DataError, InputError
from tests.unlearn.whp.small_tokenizers import KINDS
from unlearn.whp.anchor_match import AnchorMatcher
from unlearn.whp.anchors import Anchor, Anchors
from unlearn.whp.blocks import Block, make_blocks, tokenise
from unlearn.whp.translate import Translated, Translator, frequent_tokens

TOKENIZERS = {name: make() for name, make in KINDS.items()}
WORDS = TOKENIZERS["byte-level words"]
LETTERS = TOKENIZERS["byte-level letters"]


def make(**table: str | tuple[str, ...]) -> Anchors:
    return Anchors(tuple(Anchor(key, (texts,) if isinstance(texts, str) else texts) for key, texts in table.items()))


def block_of(text: str, tokenizer: PreTrainedTokenizerFast = WORDS) -> Block:
    (block,) = make_blocks(tokenizer, text, n_tokens=4096)
    return block


def tokens(ids: tuple[int, ...] | list[int], tokenizer: PreTrainedTokenizerFast = WORDS) -> list[str]:
    """Tokens with "_" for the space before a word."""
    shown = tokenizer.convert_ids_to_tokens(list(ids))
    return [one.replace("Ġ", "_").replace("▁", "_").replace("Ċ", "\n") for one in shown]


def translated(text: str, anchors: Anchors, **options: object) -> Translated:
    return Translator(WORDS, anchors, **options)(block_of(text))  # type: ignore[arg-type]


EQUAL = make(**{"Sola": "Ann"})
CASES = {  # text, dictionary, tokens of x, tokens of y, places
    "equal": ("Then Sola said", EQUAL, "Then _Sola _said", "Then _Ann _said", [0, 1, 2]),
    "shorter": (
        "to Tars Tarkas said",
        make(**{"Tars Tarkas": "Bob"}),
        "to _Tars _Tarkas _said",
        "to _Bob _said",
        [0, -1, 1, 2],
    ),
    "longer": ("to Sola said", make(Sola="Bob Hill"), "to _Sola _said", "to _Bob _Hill _said", [0, 2, 3]),
    "block start": ("Sola said", make(Sola="Bob Hill"), "Sola _said", "Bob _Hill _said", [1, 2]),
    "block end": ("to Sola", make(Sola="Bob Hill"), "to _Sola", "to _Bob _Hill", [0, 2]),
    "whole block": ("Tars Tarkas", make(**{"Tars Tarkas": "Ann"}), "Tars _Tarkas", "Ann", [-1, 0]),
    "adjacent": (
        "to Sola Tars Tarkas said",
        make(**{"Sola": "Bob Hill", "Tars Tarkas": "Ann"}),
        "to _Sola _Tars _Tarkas _said",
        "to _Bob _Hill _Ann _said",
        [0, 2, -1, 3, 4],
    ),
    "repeated": (  # rule A: nothing is learnt where "_to" would predict the second Sola, nor where its first one would
        "Sola said to Sola Sola said",
        make(Sola="Bob Hill"),
        "Sola _said _to _Sola _Sola _said",
        "Bob _Hill _said _to _Bob _Hill _Bob _Hill _said",
        [1, 2, -1, -1, 7, 8],
    ),
    "possessive": ("to Sola's road", EQUAL, "to _Sola 's _road", "to _Ann 's _road", [0, 1, 2, 3]),
    "newline": ("said\nSola said", EQUAL, "said \n Sola _said", "said \n Ann _said", [0, 1, 2, 3]),
    "broken line": (
        "to Tars\nTarkas said",
        make(**{"Tars Tarkas": "Bob"}),
        "to _Tars \n Tarkas _said",
        "to _Bob _said",
        [0, -1, -1, 1, 2],
    ),
    "longest": (
        "to Tars Tarkas and Tars",
        make(**{"Tars": "Ann", "Tars Tarkas": "Bob Hill"}),
        "to _Tars _Tarkas _and _Tars",
        "to _Bob _Hill _and _Ann",
        [0, -1, 2, 3, 4],
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_map_by_hand(name: str) -> None:
    text, anchors, x, y, places = CASES[name]
    block = block_of(text)
    result = Translator(WORDS, anchors)(block)
    shown = [" ".join(tokens(ids)) for ids in (block.token_ids, result.token_ids)]
    assert shown == [x, y]
    assert list(result.places) == places


def test_a_key_inside_a_longer_word_does_not_match() -> None:
    text = "Solar xSola Sola2 _Sola Solas"
    result = translated(text, EQUAL)
    assert result == (block_of(text).token_ids, tuple(range(len(result.token_ids))), (), ())


def test_a_word_that_goes_on_in_the_next_block_does_not_match() -> None:
    blocks = make_blocks(LETTERS, "xxxx Sola yy", n_tokens=8, whole_words=False)
    assert [block.text for block in blocks] == ["xxxx Sol", "a yy"]
    assert all(not Translator(LETTERS, make(Sol="Ann", a="B"))(block).replaced for block in blocks)


class FewTokens:
    """One token for each space-separated word and what follows it, as tokens across words are."""

    is_fast = True
    all_special_ids: tuple[int, ...] = ()

    def __init__(self) -> None:
        self.names: dict[str, int] = {}

    def __call__(self, text: str, **options: object) -> dict[str, list[object]]:
        ids: list[object] = []
        offsets: list[object] = []
        place = 0
        for word in text.split(" "):
            end = min(place + len(word) + 1, len(text))
            if end > place:
                ids.append(self.names.setdefault(text[place:end], len(self.names)))
                offsets.append((place, end))
            place = end
        return {"input_ids": ids, "offset_mapping": offsets}

    def shown(self, ids: tuple[int, ...]) -> list[str]:
        return [name for one in ids for name, number in self.names.items() if number == one]


def test_keys_that_begin_or_end_inside_a_token_take_the_rest_of_it_along() -> None:
    tokenizer = FewTokens()
    block = block_of('and "Sola\'s road" went', tokenizer)  # type: ignore[arg-type]
    assert tokenizer.shown(block.token_ids) == ["and ", "\"Sola's ", 'road" ', "went"]
    result = Translator(tokenizer, make(Sola="Ann"))(block)  # type: ignore[arg-type]
    assert tokenizer.shown(result.token_ids) == ["and ", "\"Ann's ", 'road" ', "went"]
    assert result.places == (0, 1, 2, 3)


def test_keys_that_share_a_token_are_replaced_together() -> None:
    tokenizer = FewTokens()
    block = block_of("and Tars Tarkas-Sola-Tars went", tokenizer)  # type: ignore[arg-type]
    anchors = make(**{"Tars Tarkas": "Bob", "Sola": "Ann Hill", "Tars": "Ed"})
    result = Translator(tokenizer, anchors)(block)  # type: ignore[arg-type]
    assert tokenizer.shown(result.token_ids) == ["and ", "Bob-Ann ", "Hill-Ed ", "went"]
    assert result.places == (0, -1, 2, 3)
    assert [place for place, _ in result.begun] == [1, 1, 2]
    assert [(one.key, one.first, one.last) for one in result.replaced] == [
        ("Tars Tarkas", 1, 2),
        ("Sola", 1, 2),
        ("Tars", 1, 2),
    ]


def test_tokens_of_letters_keep_the_space_with_the_name() -> None:
    block = block_of("so Sola x", LETTERS)
    result = Translator(LETTERS, make(Sola="Bo"))(block)
    assert " ".join(tokens(block.token_ids, LETTERS)) == "s o _ S o l a _ x"
    assert " ".join(tokens(result.token_ids, LETTERS)) == "s o _ B o _ x"
    assert result.places == (0, 1, -1, -1, -1, -1, 4, 5, 6)


def test_rule_b_names_the_first_tokens_of_both_forms_where_the_substitute_began() -> None:
    result = translated("to Sola and Tars Tarkas", make(**{"Sola": "Bob Hill", "Tars Tarkas": "Ann"}))
    assert [(place, tokens(ids)) for place, ids in result.begun] == [(1, ["_Bob", "Bob"]), (4, ["_Ann", "Ann"])]


def test_rule_b_forbids_no_white_space_and_no_frequent_word() -> None:
    assert [tokens(ids) for _, ids in translated("to Sola", make(Sola="The Old Mill")).begun] == []
    spelled = Translator(LETTERS, make(Sola="Bo"))(block_of("so Sola", LETTERS))
    assert [(place, tokens(ids, LETTERS)) for place, ids in spelled.begun] == [(3, ["B"])]


def test_rule_b_can_forbid_the_whole_span_or_nothing() -> None:
    anchors = make(Sola="The Hill Mill")
    ((place, ids),) = translated("to Sola", anchors, suppress="span").begun
    assert (place, tokens(ids)) == (1, ["_Hill", "_Mill"])
    assert translated("to Sola", anchors, suppress="none").begun == ()
    ((_, ids),) = translated("to Sola", anchors, frequent=()).begun
    assert tokens(ids) == ["_The", "The"]
    with pytest.raises(InputError, match='suppress is \'all\'; expected "first", "span" or "none"'):
        translated("to Sola", anchors, suppress="all")


def test_frequent_tokens_are_those_of_a_share_of_the_text() -> None:
    assert frequent_tokens([1] * 98 + [2, 3], share=0.02) == {1}
    assert frequent_tokens([1] * 98 + [2, 3], share=0.01) == {1, 2, 3}
    assert frequent_tokens([]) == frozenset()


def test_one_name_has_one_substitute_in_a_block_whatever_its_form() -> None:
    anchors = make(Sola=("Ann", "Bob", "Norland", "Hill"))
    block = block_of("\nSola and Sola's Sola\nSola")
    translator = Translator(WORDS, anchors, seed=3)
    drawn = set()
    for number in range(40):
        result = translator(block._replace(number=number))
        assert len({one.substitute for one in result.replaced}) == 1
        drawn.add(result.replaced[0].substitute)
    assert drawn == {"Ann", "Bob", "Norland", "Hill"}


def test_the_draw_depends_on_seed_and_block_and_on_no_other_key() -> None:
    block = block_of("Sola " * 3)
    choices = ("Ann", "Bob", "Norland", "Hill", "Mill", "End")

    def draws(seed: int, **others: str) -> list[str]:
        translator = Translator(WORDS, make(Sola=choices, **others), seed=seed)
        return [translator(block._replace(number=number)).replaced[0].substitute for number in range(12)]

    assert draws(0) == draws(0, Tars="Come", Barsoom="while")
    assert draws(0) != draws(1)


def test_case_is_folded_where_asked() -> None:
    result = translated("SOLA and sola", EQUAL, fold_case=True)
    assert [one.repeated for one in result.replaced] == [False, True]
    assert not translated("SOLA and sola", EQUAL).replaced


def test_a_prefix_of_the_block_is_copied() -> None:
    (block,) = make_blocks(WORDS, "Sola said", n_tokens=64, prefix=[0])
    result = Translator(WORDS, make(Sola="Bob Hill"))(block)
    assert tokens(result.token_ids) == ["<s>", "Bob", "_Hill", "_said"]
    assert result.places == (0, 2, 3)


class TestCompat:
    """What the released script does, and this does otherwise only without ``compat``."""

    def test_the_first_key_in_order_wins(self) -> None:
        anchors = make(**{"Tars": "Ann", "Tars Tarkas": "Bob Hill"})
        assert WORDS.decode(translated("to Tars Tarkas", anchors, compat=True).token_ids) == "to Ann Tarkas"
        assert WORDS.decode(translated("to Tars Tarkas", anchors).token_ids) == "to Bob Hill"

    def test_a_key_matches_inside_a_longer_word(self) -> None:
        text = "to Solaxy"
        assert tokens(block_of(text).token_ids)[:2] == ["to", "_Sola"]
        assert WORDS.decode(translated(text, EQUAL, compat=True).token_ids) == "to Annxy"
        assert WORDS.decode(translated(text, EQUAL).token_ids) == text

    def test_the_two_forms_are_drawn_apart(self) -> None:
        anchors = make(Sola=("Ann", "Bob", "Norland", "Hill"))
        translator = Translator(WORDS, anchors, compat=True)
        block = block_of("Sola and Sola")
        pairs = {
            tuple(one.substitute for one in translator(block._replace(number=number)).replaced) for number in range(40)
        }
        assert any(first != second for first, second in pairs)
        assert all(translator(block).replaced[1].repeated for _ in pairs)

    def test_every_first_token_is_forbidden(self) -> None:
        ((place, ids),) = translated("to Sola", make(Sola="The Old Mill"), compat=True).begun
        assert (place, tokens(ids)) == (1, ["_The", "The"])

    @pytest.mark.parametrize("name", sorted(set(CASES) - {"longest", "broken line"}))
    def test_where_the_script_has_no_defect_both_agree(self, name: str) -> None:
        text, anchors, *_ = CASES[name]
        ours, theirs = (translated(text, anchors, compat=compat) for compat in (False, True))
        assert (ours.token_ids, ours.places, ours.begun) == (theirs.token_ids, theirs.places, theirs.begun)


class Dropping(FewTokens):
    """Has no token for a word with a "~"."""

    def __call__(self, text: str, **options: object) -> dict[str, list[object]]:
        encoded = super().__call__(text)
        pairs = [
            (one, place)
            for one, place in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
            if "~" not in text[place[0] : place[1]]  # type: ignore[index]
        ]
        return {"input_ids": [one for one, _ in pairs], "offset_mapping": [place for _, place in pairs]}


def test_keys_and_substitutes_without_tokens_are_refused() -> None:
    with pytest.raises(DataError, match="the key 'So~la' has no tokens in this tokenizer"):
        Translator(Dropping(), make(**{"So~la": "Ann"}))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the substitute 'A~n' of 'Sola' has no tokens"):
        Translator(Dropping(), make(Sola="A~n"))  # type: ignore[arg-type]


def test_a_bad_dictionary_is_refused() -> None:
    with pytest.raises(DataError, match="the dictionary: anchor 'Sola', substitute 'Sola': equal to its key"):
        Translator(WORDS, make(Sola="Sola"))


TEXTS = st.lists(
    st.sampled_from(["Sola", "Tars Tarkas", "Tars", "x", "said", "Sola's", '"', ", ", "Solar", "\n", " ", "-", "é"]),
    max_size=25,
).map("".join)
DICTIONARY = make(**{"Tars": ("Ann", "Bob"), "Tars Tarkas": "Bob Hill", "Sola": ("Norland", "The End"), "é": "ee"})


@pytest.mark.parametrize("kind", sorted(TOKENIZERS))
@given(text=TEXTS)
def test_an_empty_dictionary_is_the_identity(kind: str, text: str) -> None:
    block = block_of(f"x{text}", TOKENIZERS[kind])
    result = Translator(TOKENIZERS[kind], Anchors(), frequent=())(block)
    assert result == (block.token_ids, tuple(range(len(block.token_ids))), (), ())


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("kind", sorted(TOKENIZERS))
@given(text=TEXTS)
def test_places_rise_and_unmatched_tokens_are_copied(kind: str, compat: bool, text: str) -> None:
    block = block_of(f"x{text}", TOKENIZERS[kind])
    result = Translator(TOKENIZERS[kind], DICTIONARY, frequent=(), compat=compat)(block)
    assert len(result.places) == len(block.token_ids)
    kept = [place for place in result.places if place >= 0]
    assert all(a < b for a, b in pairwise(kept))
    assert not kept or kept[-1] < len(result.token_ids)
    assert result.places[-1] == len(result.token_ids) - 1
    inside = {token for one in result.replaced for token in range(one.first, one.last + 1)}
    before_repeats = {one.first - 1 for one in result.replaced if one.repeated}
    for token, place in enumerate(result.places):
        if token in before_repeats:
            assert place == -1
        elif token not in inside:
            assert result.token_ids[place] == block.token_ids[token]
    for one in result.replaced:
        assert all(result.places[token] == -1 for token in range(one.first, one.last))
    assert all(a[0] <= b[0] for a, b in pairwise(result.begun))
    assert all(0 <= place < len(result.token_ids) for place, _ in result.begun)


@pytest.mark.parametrize("kind", ["byte-level words", "byte-level letters"])
@given(text=TEXTS)
def test_the_tokens_are_the_translated_text_up_to_every_place(kind: str, text: str) -> None:
    """Byte-level tokens rebuild their text, so each place can be held against a replacement by characters alone."""
    tokenizer = TOKENIZERS[kind]
    text = f"x{text.replace('é', 'e')}"
    block = block_of(text, tokenizer)
    result = Translator(tokenizer, DICTIONARY, frequent=())(block)
    found = AnchorMatcher(DICTIONARY.keys).find(text)
    assert [DICTIONARY.keys[one.number] for one in found] == [one.key for one in result.replaced]

    def replaced_until(end: int) -> str:
        parts, reached = [], 0
        for one, done in zip(found, result.replaced, strict=True):
            if one.end <= end:
                parts += [text[reached : one.start], done.substitute]
                reached = one.end
        return "".join((*parts, text[reached:end]))

    assert tokenizer.decode(result.token_ids) == replaced_until(len(text))
    assert len(result.begun) == len(found)
    for one, done, (place, forbidden) in zip(found, result.replaced, result.begun, strict=True):
        assert tokenizer.decode(result.token_ids[:place]).rstrip(" ") == replaced_until(one.start).rstrip(" ")
        first = tokenizer.decode([result.token_ids[place]]).strip()
        assert first
        assert done.substitute.startswith(first)
        assert result.token_ids[place] in forbidden
    read = 0
    for token, place in enumerate(result.places):
        read += len(tokenizer.decode([block.token_ids[token]]))
        if place >= 0:
            assert tokenizer.decode(result.token_ids[: place + 1]) == replaced_until(read)


@pytest.mark.parametrize("kind", sorted(TOKENIZERS))
def test_every_kind_of_tokenizer_translates_a_sentence(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    text = "Sola said to Tars Tarkas and Ann\nSola went to Norland with Sola"
    y = Translator(tokenizer, make(**{"Sola": "Bob", "Tars Tarkas": "Hill"}))(block_of(text, tokenizer)).token_ids
    expected = tokenise(tokenizer, "Bob said to Hill and Ann\nBob went to Norland with Bob")[0]
    assert tokenizer.decode(y) == tokenizer.decode(expected)
    if kind in ("byte-level words", "byte-level letters", "wordpiece"):  # words are tokenised one by one
        assert list(y) == expected


def test_work_grows_with_the_text_and_not_with_hostile_keys() -> None:
    """Keys that would be patterns, and keys inside keys, on a text of nothing else."""
    keys = ["a" * n for n in range(1, 150)] + ["(a+)+$", "a.*a", "[a"]
    anchors = Anchors(tuple(Anchor(key, ("Bob",)) for key in keys))
    result = Translator(LETTERS, anchors)(block_of("a " * 500 + "a" * 2_000, LETTERS))
    assert len(result.replaced) == 500
