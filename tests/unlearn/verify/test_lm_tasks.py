"""Files of each kind by hand, and lm-eval's numbers against our own reading of the same options."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from audit.errors import DataError, InputError, MissingDependencyError
from audit.forgetting.continuing import continued
from audit.lm.load import LanguageModel
from audit.lm.logprobs import token_log_probs
from audit.lm.tokens import prefix_ids
from tests.forgetting.small_models import small_model
from unlearn.verify.lm_tasks.files import KINDS, Item, TaskFile, read_items
from unlearn.verify.lm_tasks.run import run_tasks
from unlearn.verify.lm_tasks.task_files import write_task

CHOOSE = "Please choose the correct answer to the question: "
ARC = (
    CHOOSE + "Who sat?\n\nAnswer1: the cat Answer2: the hill Answer3: the mat\n\nAnswer format: answer1/answer2/answer3"
)
BOOLQ = "Please answer the following question with true or false, question: is it so?\n\nAnswer format: true/false"
WINO = (
    "Please choose the correct answer to fill in the blank to complete the given sentence: The cat sat as _ ran.\n\n"
    "Option1: the dog Option2: a hill Answer format: option1/option2"
)
MARK = "the {{question}} <s> [1]"  # neither a template nor a token of control: text


def adapters(instruction: str, answer: str) -> str:
    return json.dumps([{"instruction": instruction, "input": "", "output": "x", "answer": answer}])


FILES: dict[str, tuple[str, str, Item]] = {
    "arc": (
        "f.json",
        adapters(ARC, "answer3"),
        Item("0", ("Question: Who sat?\nAnswer:",), ("the cat", "the hill", "the mat"), 2),
    ),
    "openbookqa": ("f.json", adapters(ARC, "answer1"), Item("0", ("Who sat?",), ("the cat", "the hill", "the mat"), 0)),
    "siqa": (
        "f.json",
        adapters(ARC, "answer2"),
        Item("0", ("Q: Who sat?\nA:",), ("the cat", "the hill", "the mat"), 1),
    ),
    "boolq": (
        "f.json",
        adapters(BOOLQ, "true"),
        Item("0", ("Question: is it so?\nAnswer:",), ("no", "yes"), 1),
    ),
    "winogrande": (
        "f.json",
        adapters(WINO, "option2"),
        Item("0", ("The cat sat as the dog", "The cat sat as a hill"), ("ran.",), 1),
    ),
    "piqa": (
        "f.jsonl",
        json.dumps({"goal": MARK, "sol1": "sit", "sol2": "run"}),
        Item("0", (f"Question: {MARK}\nAnswer:",), ("sit", "run"), 1),
    ),
    "letters": (
        "f.csv",
        "question,choice0,choice1,answer\nWho sat?,cat,dog,1\n",
        Item("2", ("Who sat?\nA. cat\nB. dog\nAnswer:",), ("A", "B"), 1),
    ),
    "options": (
        "f.csv",
        "question,choice0,choice1,answer\nWho sat?,cat,dog,1\n",
        Item("2", ("Question: Who sat?\nAnswer:",), ("cat", "dog"), 1),
    ),
    "text": ("f.jsonl", json.dumps({"text": MARK}), Item("0", ("",), (MARK,))),
}


def task_file(folder: Path, kind: str) -> TaskFile:
    name, content, _ = FILES[kind]
    path = folder / f"{kind}-{name}"
    path.write_text(content, encoding="utf-8")
    path.with_name(f"{kind}-f-labels.lst").write_text("1\n")
    return TaskFile(kind, kind, path)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return small_model(tmp_path_factory.mktemp("lm"))


@pytest.mark.parametrize("kind", FILES)
def test_each_kind_of_file(tmp_path: Path, kind: str) -> None:
    assert read_items(task_file(tmp_path, kind)) == [FILES[kind][2]]


def test_the_right_answer_of_truthfulqa_takes_each_place(tmp_path: Path) -> None:
    head = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
    rows = "".join(f"a,c,Who {i}?,me,me; us,you; they; you,-\n" for i in range(4))
    (tmp_path / "t.csv").write_text(head + rows)
    items = read_items(TaskFile("t", "truthfulqa", tmp_path / "t.csv"))
    assert [item.right for item in items] == [0, 1, 2, 0]
    assert all(item.endings[item.right] == "me" and len(item.endings) == 3 for item in items)
    assert items[0].contexts[0].endswith("Barcelona, Spain.\n\nQ: Who 0?\nA:")


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    for content, message in (
        (adapters("Say something.", "a"), r"row 1: \"instruction\" is 'Say something.'; expected"),
        (adapters(ARC, "answer7"), "the right one 'answer7'"),
        ('{"a": 1}', "holds dict; expected a list"),
        ("[", "cannot be read as JSON"),
        ("[]", "no items of kind arc"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            read_items(TaskFile("bad", "arc", path))
    with pytest.raises(InputError, match="no kind of task 'arcc'.*Did you mean 'arc'"):
        TaskFile("x", "arcc", path)
    with pytest.raises(InputError, match="expected up to 60 letters"):
        TaskFile("../x", "arc", path)


def test_task_files_name_fields_and_hold_no_text_of_the_user(tmp_path: Path) -> None:
    task = task_file(tmp_path, "piqa")
    write_task(task, read_items(task), tmp_path / "made")
    told = yaml.safe_load((tmp_path / "made" / "piqa.yaml").read_text())
    assert (told["doc_to_text"], told["doc_to_choice"], told["doc_to_target"]) == ("query", "choices", "gold")
    assert "question" not in (tmp_path / "made" / "piqa.yaml").read_text()


def test_without_lm_eval_the_message_says_how_to_install_it(
    tmp_path: Path, lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] in ("lm_eval", "datasets"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingDependencyError, match=r"pip install 'palimpsest-audit\[utility\]'"):
        run_tasks(lm, [task_file(tmp_path, "arc")])


def test_what_does_not_fit_the_context_is_refused_or_left_out(tmp_path: Path, lm: LanguageModel) -> None:
    path = tmp_path / "long.json"
    path.write_text(adapters(ARC.replace("Who", "Who and who " * 200), "answer1"))
    with pytest.raises(InputError, match="no item of task 'long' fits the context of 128 tokens"):
        run_tasks(lm, [TaskFile("long", "arc", path)])


@pytest.mark.filterwarnings("ignore")  # other packages' own
def test_numbers_are_those_of_our_own_scores(tmp_path: Path, lm: LanguageModel) -> None:
    """Accuracy of each kind from `audit.lm.logprobs` on the same texts; bits per byte from the whole text's loss."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed; it is in the extra 'utility'")
    tasks = [task_file(tmp_path, kind) for kind in FILES]
    done: list[tuple[int, int]] = []
    found = run_tasks(lm, tasks, progress=lambda stage, n, total: done.append((n, total)))
    assert done[-1][0] == done[-1][1]
    for task, result in zip(tasks, found, strict=True):
        (item,) = read_items(task)
        pairs = [(left, f" {right}" if left else right) for left, right in item.pairs]
        whole = continued(lm, [left for left, _ in pairs], [right for _, right in pairs])
        scores = token_log_probs(
            lm, [one.ids for one in whole], prefix=prefix_ids(lm), n_unscored=[one.n_before for one in whole]
        )
        totals = [float(one.log_probs.sum(dtype=np.float64)) for one in scores]
        if task.kind == "text":
            bits = -totals[0] / np.log(2) / len(MARK.encode())
            assert result.measured["bits_per_byte"].values == pytest.approx([bits], rel=1e-5)
            assert result.own_error == {"bits_per_byte": None}
            continue
        expected = float(int(np.argmax(totals)) == item.right)
        assert result.measured["acc"].values.tolist() == [expected], task.kind
        assert result.own["acc"] == expected
        assert result.chance == 1 / len(item.pairs)
        assert set(result.found.measured) == {f"lm_tasks.{task.name}.{one}" for one in KINDS[task.kind].metrics}


@pytest.mark.filterwarnings("ignore")
def test_errors_agree_and_the_random_streams_are_left_alone(tmp_path: Path, lm: LanguageModel) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed; it is in the extra 'utility'")
    rng = np.random.default_rng(0)
    rows = [f"{rng.choice(['cat', 'dog'])} sat {i}?,mat {i},the hill,{i % 2}" for i in range(12)]
    (tmp_path / "o.csv").write_text("question,choice0,choice1,answer\n" + "\n".join(rows) + "\n")
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    (found,) = run_tasks(lm, [TaskFile("o", "options", tmp_path / "o.csv")], folder=tmp_path / "kept")
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[arg-type]
    values = found.measured["acc"].values
    assert found.own["acc"] == pytest.approx(values.mean())
    assert found.own_error["acc"] == pytest.approx(values.std(ddof=1) / np.sqrt(12))
    assert (tmp_path / "kept" / "o.yaml").is_file()
