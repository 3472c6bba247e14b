"""A model card gets a run's results, and every other byte of it stays."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from audit.errors import DataError, InputError
from audit.gates.result import Family, GatedPolicy, GatedRun, GateResult, RuleOutcome
from audit.report.card_content import CardContent, eval_results, section
from audit.report.model_card import BEGIN, END, updated_card
from audit.runs.schema import EstimateRecord, Findings, RunRecord
from tests.report.hostile import PAYLOADS, mapped

RESULTS = [
    EvalResult(
        task_type="text-generation",
        dataset_type="palimpsest-traps",
        dataset_name="Copyright traps",
        metric_type="auc",
        metric_name=f"traps.copies_{copies}/auc",
        metric_value=value,
        metric_args={"low": 0.5, "high": 0.9, "n": 40, "method": "a: b # c" * 20},
    )
    for copies, value in ((1, 0.7), (4, 1e-05))
]
SECTION = ["## What it carries", "", "words"]
OTHERS = """model-index:
  # kept: measured by hand
- name:   theirs
  results:
  - task: {type: text-generation}
    dataset: {name: MMLU, type: cais/mmlu}   # kept
    metrics:
    - {type: acc, value: 0.30}

  # kept: and this
  - task:
      type: text-generation
    dataset:
      name: >-
        A folded
        name
      type: x/y
    metrics:
    - type: acc
      value: .nan
"""
INDENTED = """model-index:
  - name: theirs
    results:
      - task: {type: text-generation}
        dataset: {name: MMLU, type: cais/mmlu}
        metrics: [{type: acc, value: 0.30}]
"""


def update(card: str, results: list[EvalResult] = RESULTS, lines: list[str] = SECTION, name: str | None = None) -> str:
    return updated_card(card, results, lines, name=name, else_named="subject")


def without_ours(card: str) -> str:
    """The card with the lines of our results and our section cut out again, by their text alone."""
    start, end = card.index(BEGIN), card.index(END) + len(END)
    head, tail = card[:start], card[end:]
    return re.sub(
        r"^( *)- task:\r?\n\1    type: text-generation\r?\n\1  dataset:\r?\n\1    name: Copyright traps\r?\n"
        r"(\1  .*\r?\n)+",
        "",
        head,
        flags=re.MULTILINE,
    ) + tail.removeprefix("\r\n" if "\r\n" in card else "\n")


CARDS = {
    "plain": "---\nlicense: mit   # a comment\ntags: [a,   b]\n---\n\n# Title\n\ntext\n",
    "others": f"---\nlicense: mit\n{OTHERS}language: en # last\n---\n# Title\n",
    "others last": f"---\n{OTHERS}---\n# Title\n",
    "indented": f"---\n{INDENTED}# a comment\nlanguage: en\n---\n# Title\n",
    "CRLF": f"---\nlicense: mit\n{OTHERS}---\n\n# Title\n\ntext\n".replace("\n", "\r\n"),
    "byte order mark": f"\ufeff---\n{OTHERS}language: en\n---\n# Title\n",
}


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_every_other_byte_stays_and_a_second_time_changes_nothing(card: str) -> None:
    once = update(card)
    assert update(once) == once
    inserted = without_ours(once)
    if "model-index" not in card:
        inserted = re.sub(r"model-index:\n- name: subject\n  results:\n", "", inserted)
    line = "\r\n" if "\r\n" in card else "\n"
    assert inserted == card + line
    ours = [one for one in ModelCard(once.removeprefix("\ufeff")).data.eval_results if "palimpsest" in one.dataset_type]
    assert [(one.metric_name, one.metric_value, one.metric_args) for one in ours] == [
        (one.metric_name, one.metric_value, one.metric_args) for one in RESULTS
    ]


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_results_are_replaced_where_they_stand_and_can_be_taken_out_again(card: str) -> None:
    once = update(card)
    moved = once.replace("# Title", "# Another title") + "after\n"
    newer = [replace(RESULTS[0], metric_value=0.99)]
    twice = update(moved, newer, ["## Newer"])
    assert "words" not in twice
    assert twice.endswith(f"{END}\r\nafter\n" if "\r\n" in card else f"{END}\nafter\n")
    values = [
        one.metric_value
        for one in ModelCard(twice.removeprefix("\ufeff")).data.eval_results
        if one.dataset_type == "palimpsest-traps"
    ]
    assert values == [0.99]
    emptied = update(once, [])
    assert emptied.split(BEGIN)[0].rstrip() == card.rstrip()


def test_two_models_of_one_card_are_told_apart_by_name() -> None:
    card = update(f"---\n{OTHERS}---\n")
    both = update(card, RESULTS, SECTION, name="ours")
    index = yaml.safe_load(both.split("---\n")[1])["model-index"]
    assert [one["name"] for one in index] == ["theirs", "ours"]
    assert [len(one["results"]) for one in index] == [2, 1]  # those of before are no longer under the other name
    assert update(both, RESULTS, SECTION, name="ours") == both
    with pytest.raises(InputError, match=r"several models \('theirs', 'ours'\). Say which with --name"):
        update(both)


def test_a_card_that_is_not_there_is_made_and_one_without_metadata_gets_some() -> None:
    made = update("")
    assert made.startswith("---\nmodel-index:\n- name: subject\n")
    assert update(made) == made
    bare = update("# Title\n\ntext")
    assert bare.split("---\n\n", 1)[1].startswith(f"# Title\n\ntext\n\n{BEGIN}\n")
    assert update(bare) == bare
    assert update("# Title\n", []).startswith("# Title\n\n" + BEGIN)  # nothing for the metadata, so none is made


@pytest.mark.parametrize(
    ("card", "error", "message"),
    [
        ("---\nmodel-index: [{name: a, results: []}]\n---\n", InputError, "cannot be changed without touching"),
        ("---\n{license: mit}\n---\n", InputError, "cannot be changed without touching"),
        ("---\nmodel-index:\n- name: a\n  results: []\n---\n", InputError, "Write it as a block"),
        ("---\na: [\n---\n", DataError, "the card's metadata is no YAML"),
        ("---\n- a\n---\n", DataError, "no YAML mapping"),
        ("---\nmodel-index:\n- name: a\n---\n", DataError, "model-index is not as the Hub reads it"),
        ("---\nmodel-index:\n---\n", DataError, "model-index is not as the Hub reads it"),
        ("---\nmodel-index: 3\n---\n", DataError, "model-index is not as the Hub reads it"),
        (f"---\na: 1\n---\n{END}\n{BEGIN}\n", InputError, r"do not pair up \(about line 4, 5\)"),
        (f"{BEGIN}\n{BEGIN}\n{END}\n", InputError, "do not pair up"),
        (f"{BEGIN}\n", InputError, "one of each is expected"),
    ],
)
def test_what_cannot_be_kept_is_refused(card: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        update(card)


SCALARS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20), st.integers(), st.booleans()
)
METADATA = st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.one_of(SCALARS, st.lists(SCALARS)))


@settings(max_examples=40, deadline=None)
@given(metadata=METADATA, body=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=200))
def test_any_card_keeps_its_metadata_and_its_body(metadata: dict[str, object], body: str) -> None:
    written = yaml.safe_dump(metadata, allow_unicode=True) if metadata else ""
    if re.search(r"^(---|\.\.\.)", written, re.MULTILINE) or BEGIN in body or END in body:
        return
    card = f"---\n{written}license: mit\n---\n{body}"
    once = update(card)
    assert update(once) == once
    assert once.startswith(f"---\n{written}license: mit\nmodel-index:")
    assert once.partition("\n---\n")[2].startswith(body)
    assert yaml.safe_load(once[4:].partition("\n---\n")[0])["license"] == "mit"


# What it says


@pytest.fixture
def content(record: RunRecord, findings: Findings) -> CardContent:
    return CardContent(record, findings, "f" * 64, {"model.safetensors": "a" * 64})


def gate(record: RunRecord, words: str = "") -> GateResult:
    rules = [
        RuleOutcome(
            id=f"{words}traps.auc", title=f"{words}Hardly told", severity="block", outcome="breached",
            counts_as="breached", evidence="evidence against", reason=f"{words}0.9 is above.", change="-", line=3,
        ),
        RuleOutcome(
            id=f"{words}extraction", title=f"{words}Nothing comes back", severity="block", outcome="missing",
            counts_as="breached", evidence="not assessed", reason=f"{words}No run has it.", change="-", line=9,
        ),
    ]  # fmt: skip
    return GateResult(
        palimpsest="0", verdict="breached", exit_code=1, summary="s", today="2026-11-28",
        policy=GatedPolicy(name="p", title=f"{words}Release", reading="r", sha256="0" * 64),
        runs=(GatedRun(id=record.id, kind="audit", created="c", plan_sha256="p", findings_sha256="f",
                       policy_sha256=None, model_weights=None, seal="not sealed"),),
        family=Family(p_values=0, runs_with_p_values=0, alpha=0.05, intervals=1, false_block_by_intervals=0.025,
                      false_pass=0.025),
        rules=tuple(rules),
    )  # fmt: skip


def test_the_metadata_holds_the_numbers_of_findings_with_a_verdict_and_what_they_rest_on(content: CardContent) -> None:
    results = eval_results(replace(content, head="b" * 64))
    wanted = {
        f"{finding.id}/{name}": (number.value, number.low, number.n, finding.verdict)
        for part in content.findings.sections
        for finding in part.findings
        if finding.verdict != "information"
        for name, number in finding.estimates.items()
        if number.value is not None
    }
    assert wanted
    told = {
        one.metric_name: (
            one.metric_value,
            one.metric_args.get("low"),
            one.metric_args["n"],
            one.metric_args["verdict"],
        )
        for one in results
    }
    assert told == wanted
    assert {one.dataset_type for one in results} == {"palimpsest-traps"}
    assert results[0].dataset_args["weights_sha256"] == {"model.safetensors": "a" * 64}
    assert results[0].dataset_args["seal_head"] == "b" * 64


def test_the_section_says_the_numbers_what_is_open_and_where_the_evidence_is(
    content: CardContent, record: RunRecord
) -> None:
    first = content.findings.sections[0].findings[0]
    none = EstimateRecord(value=None, low=None, high=None, level=0.95, n=0, method="m", why="no rows were left")
    open_ = first.model_copy(update={"id": "traps.open", "verdict": "inconclusive", "estimates": {"rate": none}})
    part = content.findings.sections[0].model_copy(update={"findings": (first, open_)})
    told = "\n".join(section(replace(content, findings=Findings(sections=(part,)), gate=gate(record), head="b" * 64)))
    name, number = next(iter(first.estimates.items()))
    assert re.search(rf"\| {re.escape(first.id)} \| Found \| {name} \| {number.value:.2f}\d* \[", told)
    assert "**Blocked.**" in told
    assert "traps.open: inconclusive, which leaves the question open." in told
    assert "traps.open, rate: not estimable. no rows were left" in told
    assert "Nothing comes back (extraction): missing. No run has it." in told
    assert "extraction: extraction of post-training data. Not part of this run." in told
    assert f"Head of its seal: {'b' * 64}" in told
    assert f"model.safetensors {'a' * 64}" in told


def test_one_confounded_finding_takes_the_verdicts_of_its_audit(content: CardContent) -> None:
    part = content.findings.sections[0]
    blind = part.findings[0].model_copy(update={"id": "traps.blind", "verdict": "confounded"})
    refused = part.model_copy(update={"findings": (part.findings[0], blind)})
    results = eval_results(replace(content, findings=Findings(sections=(refused,))))
    assert {one.metric_args["verdict"] for one in results} == {"confounded"}


def test_an_empty_result_is_said_to_be_no_pass(content: CardContent) -> None:
    told = "\n".join(section(replace(content, findings=Findings(sections=()))))
    assert "an empty result is not a pass" in told
    assert "**No result.**" in told


def kinds(markdown: str) -> list[str]:
    found = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown):
        found.append(token.type)
        found += [
            child.type for child in token.children or () if child.type not in ("text", "softbreak", "text_special")
        ]
    return found


def hostile(content: CardContent, payload: str) -> CardContent:
    def change(text: str) -> str:
        return f"{payload} {text}"

    return replace(
        content,
        record=mapped(content.record, change),
        findings=mapped(content.findings, change),
        weights={change(name): digest for name, digest in content.weights.items()},
        gate=gate(content.record, f"{payload} "),
        head=change("head"),
        deviations=(change("departed"),),
    )


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: ascii(payload[:12]))
def test_hostile_text_is_inert_in_metadata_and_body(content: CardContent, payload: str) -> None:
    said = hostile(content, payload)
    card = updated_card(CARDS["others"], eval_results(said), section(said), name=None, else_named="x")
    assert updated_card(card, eval_results(said), section(said), name=None, else_named="x") == card
    metadata, _, body = card[4:].partition("\n---\n")
    read = yaml.safe_load(metadata)
    assert list(read) == ["license", "model-index", "language"]
    assert len(read["model-index"][0]["results"]) == 3
    harmless = hostile(content, "word")
    plain = updated_card(CARDS["others"], eval_results(harmless), section(harmless), name=None, else_named="x")
    if len(payload) < 1_000:
        assert kinds(body) == kinds(plain[4:].partition("\n---\n")[2])
    assert set(kinds(body)) <= set(kinds(plain[4:].partition("\n---\n")[2]))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", card)
    assert not re.search(r"(?<!\\)\$|[^\\]://|www\.", body)
    assert body.count(BEGIN) == body.count(END) == 1
    assert len(card) < 500_000
