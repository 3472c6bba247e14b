"""What a plan of the loop refuses, and what it reads."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from audit.answers.rows import QaRow
from audit.errors import DataError, InputError
from audit.lm.subject import Subject
from audit.runs.plan import parse_plan
from tests.checkpoints import build_checkpoint
from unlearn.cli.remediate.data import only_clusters, own_id, read_data
from unlearn.cli.remediate.plan import LoopPlan, names_of
from unlearn.cli.remediate.remedies import check_remedies
from unlearn.cli.remediate.systems import check_models, fingerprint_of, limited, material, require_clusters

KEEP = '[keep]\nrows = "keep.jsonl"\n'
NEVER = '[never]\nrows = "never.jsonl"\n'
MODELS = '[subject]\nmodel = "m"\n'
FORGET = '[forget]\nrows = "forget.jsonl"\n'


def parsed(text: str) -> LoopPlan:
    return parse_plan(text, LoopPlan, source="plan")


def written(folder: Path, name: str, rows: list[dict[str, object]]) -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def people(name: str, n: int) -> list[dict[str, object]]:
    return [
        {
            "id": f"{name}{who}-{what}",
            "cluster": f"{name}{who}",
            "question": f"{what} of {name}{who}?",
            "answer": "Red.",
        }
        for who in range(n)
        for what in ("home", "pet")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MODELS + "[forget]\n", "expected rows"),
        (MODELS + '[forget]\ntexts = "t"\ncluster_size = 2\n', "cluster_size is of rows"),
        (MODELS + FORGET + '[gold_2]\nmodel = "g"\n', "another seed of"),
        (MODELS + FORGET + '[remedies.subject]\nmethod = "npo"\n', "has this name already"),
        (MODELS + FORGET + '[remedies."../x"]\nmethod = "npo"\n', "letters, digits"),
        (MODELS + FORGET + '[remedies.a]\nmethod = "nop"\n', "Did you mean 'npo'"),
        (MODELS + FORGET + '[remedies.a]\nmethod = "npo"\nseeds = [1, 1]\n', "different numbers"),
        (MODELS + FORGET + '[remedies.a]\nmethod = "npo"\nanchors = "x"\n', "of the method whp"),
        (
            MODELS + FORGET + '[remedies.npo]\nmethod = "npo"\n[remedies.NPO]\nmethod = "npo"\n',
            "npo and NPO would be one",
        ),
        (
            MODELS + FORGET + '[remedies.npo]\nmethod = "npo"\nseeds = [0, 1]\n[remedies.npo-0]\nmethod = "npo"\n',
            "two npo-0 would be one folder",
        ),
        (MODELS + FORGET + '[remedies.Gold]\nmethod = "npo"\n', "has this name already"),
        (MODELS + FORGET + '[remedies.measure]\nmethod = "npo"\n', "a column of this name"),
        (MODELS + '[forget]\ntexts = "t"\n[remedies.a]\nmethod = "eco"\n', "needs [forget] rows"),
        (MODELS + '[forget]\nrows = "r"\nfound_by = "extraction"\n', "needs that audit"),
        (MODELS + FORGET + "[verify]\nattack = []\n", "attacks"),
    ],
)
def test_plans_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        parsed(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('method = "npo"\nsettings = { stepz = 3 }', "stepz"),
        ('method = "npo"\nsettings = { model = "x" }', "comes from the loop"),
        ('method = "eco"\nsettings = { alfa = 0.1 }', "alfa"),
        ('method = "lineas"\nsettings = { stepz = 3 }', "stepz"),
        ('method = "whp"\nanchors = "none.toml"', "no file of anchors"),
    ],
)
def test_settings_of_remedies_are_checked_beforehand(settings: str, message: str, tmp_path: Path) -> None:
    plan = parsed(MODELS + FORGET + KEEP + NEVER + f"[remedies.mine]\n{settings}\n")
    with pytest.raises(InputError, match=message):
        check_remedies(plan, tmp_path / "plan.toml", read_data(plan, given(tmp_path)))


def given(folder: Path, *, forget: int = 3, keep: int = 40) -> Path:
    """Files for a plan in the folder, and where the plan stands."""
    for name, n in (("forget", forget), ("keep", keep), ("never", 20)):
        written(folder, f"{name}.jsonl", people(name[0], n))
    return folder / "plan.toml"


def test_right_settings_pass_and_seeds_make_remedies_of_their_own(tmp_path: Path) -> None:
    plan = parsed(
        MODELS
        + FORGET
        + KEEP
        + NEVER
        + '[remedies.npo]\nmethod = "npo"\nseeds = [0, 1]\nsettings = { steps = 3, npo = { beta = 0.2 } }\n'
        + '[remedies.guard]\nmethod = "eco"\nsettings = { alpha = 0.1, search = { method = "grid" } }\n'
        + '[remedies.steer]\nmethod = "lineas"\nsettings = { steps = 5 }\n'
    )
    check_remedies(plan, tmp_path / "plan.toml", read_data(plan, given(tmp_path)))
    assert [name for name, _, _ in names_of(plan)] == ["npo-0", "npo-1", "guard", "steer"]


@pytest.mark.parametrize(
    ("tables", "remedy", "message"),
    [
        ("", 'method = "npo"', r"npo keeps other text as it is known; give \[keep\]"),
        ("", 'method = "gradient_difference"', r"give \[keep\]"),
        ("", 'method = "eco"', r"give \[keep\] rows"),
        ("", 'method = "lineas"', r"give \[keep\]"),
        (KEEP, 'method = "eco"\nsettings = { alpha = 0.1 }', r"no target for the strength; give \[never\] rows"),
        (KEEP + NEVER, 'method = "eco"\nsettings = { alpha = 0.001 }', r"are needed in all.* half of \[keep\]"),
    ],
)
def test_data_that_a_remedy_cannot_work_with_is_refused_beforehand(
    tables: str, remedy: str, message: str, tmp_path: Path
) -> None:
    plan = parsed(MODELS + FORGET + tables + f"[remedies.mine]\n{remedy}\n")
    with pytest.raises(InputError, match=message):
        check_remedies(plan, tmp_path / "plan.toml", read_data(plan, given(tmp_path)))


def test_methods_that_need_no_text_to_keep_pass_without_it(tmp_path: Path) -> None:
    remedies = (
        '[remedies.a]\nmethod = "npo"\nsettings = { retain_term = "none" }\n'
        '[remedies.b]\nmethod = "gradient_ascent"\n[remedies.c]\nmethod = "whp"\n'
    )
    plan = parsed(MODELS + FORGET + remedies)
    check_remedies(plan, tmp_path / "plan.toml", read_data(plan, given(tmp_path)))


def test_remedies_of_a_subject_with_an_adapter_are_refused_beforehand(tmp_path: Path) -> None:
    plan = parsed(MODELS + 'adapter = "a"\n' + FORGET + KEEP + '[remedies.a]\nmethod = "npo"\n')
    with pytest.raises(InputError, match="merge the two first"):
        check_remedies(plan, tmp_path / "plan.toml", read_data(plan, given(tmp_path)))


def test_a_forget_set_of_one_cluster_is_refused_beforehand(tmp_path: Path) -> None:
    rows = [{"cluster": "f", "question": f"{what} of f?", "answer": "x"} for what in range(6)]
    written(tmp_path, "forget.jsonl", rows)
    plan = parsed(MODELS + FORGET)
    with pytest.raises(InputError, match="of one cluster; expected two or more"):
        require_clusters(material(plan, read_data(plan, tmp_path / "plan.toml"))[0])


def test_of_many_rows_every_cluster_keeps_some() -> None:
    """Five people with 1, 2, 3, 4 and 10 rows, and room for 8: everybody's first in turn, then second, ..."""
    rows = [
        QaRow(f"{who}-{row}", who, "q", "a")
        for who, n in zip("abcde", (1, 2, 3, 4, 10), strict=True)
        for row in range(n)
    ]
    kept = limited(rows, 8, seed=0)
    counts = Counter(row.cluster for row in kept)
    assert len(kept) == 8
    assert set(counts) == set("abcde")
    assert counts["a"] == 1
    assert max(counts.values()) == 2
    assert kept == limited(rows, 8, seed=0) != limited(rows, 8, seed=1)
    assert [rows.index(row) for row in kept] == sorted(rows.index(row) for row in kept)


def test_kept_clusters_are_halved_and_stay_whole(tmp_path: Path) -> None:
    written(tmp_path, "forget.jsonl", people("f", 3))
    written(tmp_path, "keep.jsonl", people("k", 6))
    data = read_data(parsed(MODELS + FORGET + '[keep]\nrows = "keep.jsonl"\n'), tmp_path / "plan.toml")
    lent, measured = ({row.cluster for row in part.rows} for part in (data.lent, data.neighbours))
    assert len(lent) == len(measured) == 3
    assert not lent & measured
    assert set(data.inputs) == {"forget.rows", "keep.rows"}
    assert {row.cluster for row in only_clusters(data, frozenset({"forget/rows/f1"})).forget.rows} == {"forget/rows/f1"}
    with pytest.raises(DataError, match="nothing to treat"):
        only_clusters(data, frozenset())


def test_what_stands_in_two_sets_is_refused_by_name(tmp_path: Path) -> None:
    written(tmp_path, "forget.jsonl", people("f", 2))
    written(tmp_path, "keep.jsonl", [*people("k", 2), {"id": "mine", "question": "HOME  of f1?", "answer": "x"}])
    with pytest.raises(DataError, match=r"\[forget\] and \[keep\] share 1 item, first 'mine'"):
        read_data(parsed(MODELS + FORGET + '[keep]\nrows = "keep.jsonl"\n'), tmp_path / "plan.toml")


def test_rows_without_an_answer_are_refused_by_name(tmp_path: Path) -> None:
    written(tmp_path, "forget.jsonl", [{"id": "one", "question": "Who?", "answer": " "}])
    with pytest.raises(DataError, match="'one' has no answer"):
        read_data(parsed(MODELS + FORGET), tmp_path / "plan.toml")


def test_ids_of_files_that_count_from_one_do_not_collide(tmp_path: Path) -> None:
    """Rows and texts of every set have the ids 1 and 2 in their files, and the clusters 0 and 1 are counted."""
    for name in ("forget", "keep"):
        written(tmp_path, f"{name}.jsonl", [{"question": f"{name} {what}?", "answer": "x"} for what in (1, 2)])
        written(tmp_path, f"{name}-texts.jsonl", [{"text": f"{name} {what}."} for what in (1, 2)])
    tables = "".join(
        f'[{name}]\nrows = "{name}.jsonl"\ntexts = "{name}-texts.jsonl"\ncluster_size = 1\n'
        for name in ("forget", "keep")
    )
    data = read_data(parsed(MODELS + tables), tmp_path / "plan.toml")
    parts = (data.forget, data.lent, data.neighbours)
    ids = [one.id for part in parts for one in (*part.rows, *part.texts)]
    assert len(ids) == len(set(ids)) == 8
    clusters = [row.cluster for part in parts for row in part.rows]
    assert len(set(clusters)) == 4
    assert [own_id(row.id) for row in data.forget.rows] == ["1", "2"]


def test_kept_clusters_that_share_a_question_are_lent_together(tmp_path: Path) -> None:
    """Of 8 clusters k0 and k1 ask the same, and k2 asks it in other words: whatever the seed, they stay together."""
    written(tmp_path, "forget.jsonl", people("f", 2))
    rows = [{"cluster": f"k{who}", "question": f"Home of k{who}?", "answer": "x"} for who in range(8)]
    same = [{"cluster": f"k{who}", "question": "Whose pet  is it?", "answer": "x"} for who in (0, 1)]
    other = {"cluster": "k2", "question": "Whose?", "answer": "x", "paraphrased_question": "whose pet is it?"}
    written(tmp_path, "keep.jsonl", [*rows, *same, other])
    for seed in range(6):
        plan = parsed(MODELS + FORGET + KEEP + f"[verify]\nseed = {seed}\n")
        data = read_data(plan, tmp_path / "plan.toml")
        joined = [
            {own_id(row.cluster) for row in part.rows} & {"k0", "k1", "k2"} for part in (data.lent, data.neighbours)
        ]
        assert sorted(map(len, joined)) == [0, 3]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "x?", "paraphrased_question": "home of F1?", "answer": "x"}, r"\[forget\] and \[keep\] share"),
        ({"cluster": "f1", "question": "x?", "answer": "x"}, "both have rows of the cluster 'f1'"),
    ],
)
def test_other_wordings_and_clusters_that_stand_in_two_sets_are_refused(
    row: dict[str, object], message: str, tmp_path: Path
) -> None:
    written(tmp_path, "forget.jsonl", people("f", 2))
    written(tmp_path, "keep.jsonl", [*people("k", 2), {"cluster": "k0"} | row])
    with pytest.raises(DataError, match=message):
        read_data(parsed(MODELS + FORGET + KEEP), tmp_path / "plan.toml")


def test_an_evaluation_set_that_was_used_for_tuning_is_refused_by_its_hash_and_by_its_items(tmp_path: Path) -> None:
    where = given(tmp_path)
    plan = parsed(MODELS + FORGET + '[utility]\nreal_authors = "forget.jsonl"\n')
    with pytest.raises(
        DataError, match=r"\[forget\] rows and \[utility\] real_authors are the same file.*used for tuning"
    ):
        read_data(plan, where)
    written(tmp_path, "authors.jsonl", [*people("a", 2), people("k", 2)[0]])
    plan = parsed(MODELS + FORGET + KEEP + '[utility]\nreal_authors = "authors.jsonl"\n')
    with pytest.raises(DataError, match=r"\[keep\] and \[utility.real_authors\] share 1 item, first 'k0-home'"):
        read_data(plan, where)


@pytest.mark.parametrize("kind", ["letters", "options"])
def test_items_of_a_benchmark_that_stand_in_the_forget_set_are_refused(kind: str, tmp_path: Path) -> None:
    where = given(tmp_path)
    items = [{"question": question, "options": ["a", "b"], "answer": "A"} for question in ("Else?", "home of f1?")]
    written(tmp_path, "items.jsonl", items)
    plan = parsed(MODELS + FORGET + f'[utility.tasks.mine]\nkind = "{kind}"\npath = "items.jsonl"\n')
    with pytest.raises(DataError, match=r"\[forget\] and \[utility.tasks.mine\] share 1 item, first '2'"):
        read_data(plan, where)


def test_a_second_gold_must_be_another_model_with_the_same_tokenizer() -> None:
    def of(weights: str, tokenizer: str = "t" * 64) -> dict[str, object]:
        return {"weights": weights, "tokenizer": tokenizer, "files": {}}

    check_models({"subject": of("s"), "gold": of("g"), "gold_2": of("h")})
    for second, message in (
        (of("g"), "another seed"),
        (of("s"), r"\[gold_2\] has the subject's weights"),
        (of("h", "u" * 64), r"\[gold_2\]: .*tokenizer"),
    ):
        with pytest.raises(InputError, match=message):
            check_models({"subject": of("s"), "gold": of("g"), "gold_2": second})


def test_an_adapter_makes_another_model(tmp_path: Path) -> None:
    base = build_checkpoint(tmp_path / "base", "gpt2")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"x")
    prints = [fingerprint_of(Subject(str(base), adapter=one)) for one in (None, str(adapter))]
    assert prints[0]["weights"] != prints[1]["weights"]
