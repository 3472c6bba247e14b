"""What a policy may say, and what each mistake is called and where."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

import pytest

from audit.errors import InputError
from audit.gates.lint import lint
from audit.gates.policy import Policy, load_policy
from audit.gates.shipped import shipped
from audit.runs.plan import load_plan
from tests.gates.made import HEAD, policy_of, rule

AUC = {"estimate": "traps.copies_1/auc", "direction": "at_most", "limit": 0.6, "unit": "auc"}
P = {"estimate": "traps.copies_*/p:arm", "min_power": 0.8, "max_effect": 0.6}


def refusal(tmp_path: Path, text: str, **more: str) -> str:
    with pytest.raises(InputError) as error:
        policy_of(tmp_path, text, **more)
    return str(error.value)


def test_every_kind_of_rule_is_read(tmp_path: Path) -> None:
    text = "".join(
        [
            rule(id="a", **AUC),
            rule(id="b", **P),
            rule(id="c", estimate="x.y/verdict", one_of=["not found"]),
            rule(id="d", severity="info", clause="1.1 Title", not_covered="All of it."),
            rule(id="e", estimate="x/r", direction="between", limits=[-0.2, 0.2], unit="residual", two_sided=True),
        ]
    )
    loaded = policy_of(tmp_path, text)
    kinds = ["number", "p-value", "verdict", "not assessed", "number"]
    assert [one.kind for one in loaded.policy.rules] == kinds
    content = loaded.path.read_text(encoding="utf-8").split("\n")
    for number, one in enumerate(loaded.policy.rules, 1):
        assert content[loaded.lines.rule(number) - 1] == f'id = "{one.id}"'


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (AUC | {"limit": 95, "unit": "probability"}, "wrong unit: the limit 95 lies outside of [0, 1]"),
        (AUC | {"limit": 1.0}, "the limits hold whatever is found"),
        (AUC | {"direction": "atmost"}, "expected 'at_most', 'at_least' or 'between'. Did you mean 'at_most'?"),
        (AUC | {"limit": "0.6"}, "rules[1].limit is '0.6'; expected a number."),
        (AUC | {"unit": "furlongs"}, "rules[1].unit is 'furlongs'; expected 'probability'"),
        ({**AUC, "limt": 1}, "unknown key 'limt' in [rules[1]]"),
        ({key: value for key, value in AUC.items() if key != "unit"}, "unit is missing"),
        ({key: value for key, value in AUC.items() if key != "limit"}, "'at_most' takes limit and no limits"),
        (AUC | {"direction": "between"}, "'between' takes limits = [low, high] and no limit"),
        (AUC | {"estimate": "traps.copies_1"}, "is no address; expected <finding>/<estimate>"),
        (AUC | {"bound": "value"}, "bound 'value' may not block"),
        (AUC | {"reference": "gold/auc"}, "destroyed is not forgotten"),
        (AUC | {"two_sided": True}, "destroyed is not forgotten"),
        (AUC | {"clause": "1.1"}, "clause without not_covered"),
        (AUC | {"one_of": ["found"]}, "one_of is for an address that ends in /verdict"),
        (AUC | {"id": "policy.mine"}, "kept for what a policy asks of the run itself"),
        (AUC | {"id": "Mine"}, "rules[1].id is 'Mine'; expected a text like"),
        (AUC | {"min_power": 1.5}, "rules[1].min_power is 1.5; expected a number below 1"),
        ({"estimate": "a/p:b"}, "min_power is missing: a test too weak to find anything would let every model pass"),
        ({"estimate": "a/p:b", "min_power": 0.8}, "max_effect is missing: every test has power for an effect"),
        (AUC | {"max_effect": 0.6}, "max_effect without min_power"),
        (AUC | {"min_power": 0.8, "only_against": True}, "min_power is for a pass, and with only_against"),
        (AUC | {"only_against": True}, "every rule with severity 'block' is only_against, so nothing could be a pass"),
        (P | {"direction": "at_most"}, "a small one speaks against the release"),
        (P | {"limit": 0.01}, "rules[1].limit is 0.01, and alpha in [multiplicity] 0.05"),
        ({"estimate": "a/verdict", "one_of": ["not found", "inconclusive"]}, "it is no ground for a pass"),
        ({"estimate": "a/verdict"}, "one_of is missing"),
        ({"estimate": "a/verdict", "one_of": ["found", "not found"]}, "would hold whatever the audit answers"),
        (AUC | {"limit": 1.0, "range": [-1, 2]}, "it may only narrow it. Name the right unit"),
        (AUC | {"reference": AUC["estimate"]}, "reference is the estimate itself"),
        (AUC | {"estimate": "traps.copies_1/*"}, "can match 'verdict' as well"),
        (AUC | {"estimate": "traps.copies_1/ver*"}, "can match 'verdict' as well"),
        (AUC | {"estimate": "traps.copies_1/?ower"}, "can match 'power' as well"),
        (AUC | {"estimate": "traps.copies_1/?:arm"}, "can match p-values as well"),
        (AUC | {"estimate": "traps.copies_1/p*_arm"}, "can match p-values as well"),
        ({"severity": "info"}, "neither estimate nor clause"),
        ({"clause": "1", "not_covered": "all"}, "without estimate nothing is tested; set severity to 'info'"),
    ],
)
def test_a_rule_that_says_too_little_or_too_much_is_refused(tmp_path: Path, keys: dict[str, object], said: str) -> None:
    assert said in refusal(tmp_path, rule(**keys))


def test_no_file_takes_the_name_of_a_shipped_policy(tmp_path: Path) -> None:
    """Else a verdict by it would pass for one by that policy; a copy to the byte is that policy."""
    false = HEAD.replace('"made"', '"strict"')
    said = refusal(tmp_path, rule(**AUC | {"limit": 0.99}), head=false)
    assert "name is 'strict', which is a shipped policy, and this file is not that one to the byte" in said
    (problem,) = lint(tmp_path / "policy.toml", today=date(2026, 11, 28))
    assert (problem.line, problem.says in said) == (3, True)
    copy = tmp_path / "copy.toml"
    copy.write_bytes(shipped()["strict"].read_bytes())
    assert load_policy(copy).sha256 == load_policy(shipped()["strict"]).sha256
    copy.write_text(copy.read_text(encoding="utf-8").replace("limit = 0.01\n", "limit = 0.02\n"), encoding="utf-8")
    with pytest.raises(InputError, match="is not that one to the byte"):
        load_policy(copy)


def test_the_hash_is_of_the_text_that_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is exchanged right after it was read gives its own rules under its own hash."""
    path = tmp_path / "policy.toml"
    text = HEAD + rule(**AUC)
    path.write_text(text, encoding="utf-8")

    def read_then_exchanged(path: Path, model: type[Policy]) -> tuple[Policy, str]:
        read = load_plan(path, model)
        path.write_text(text.replace("0.6", "0.5"), encoding="utf-8")
        return read

    monkeypatch.setattr("audit.gates.policy.load_plan", read_then_exchanged)
    loaded = load_policy(path)
    assert loaded.policy.rules[0].limit == 0.6
    assert loaded.sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_no_limit_is_nan_or_infinite(tmp_path: Path, number: str) -> None:
    text = rule(**AUC).replace("limit = 0.6", f"limit = {number}")
    assert f"rules[1].limit is {number}; expected a finite number" in refusal(tmp_path, text)


def test_two_rules_of_one_id_are_refused(tmp_path: Path) -> None:
    assert "rules[2]: id 'r' is that of rules[1] too" in refusal(tmp_path, rule(**AUC) + rule(**AUC))


def test_a_policy_of_thousands_of_rules_is_refused(tmp_path: Path) -> None:
    text = "".join(rule(**AUC | {"id": f"r{number}"}) for number in range(1_001))
    assert "the policy has 1,001 rules; expected at most 1,000" in refusal(tmp_path, text)


def test_a_policy_that_could_not_be_breached_is_refused(tmp_path: Path) -> None:
    assert "an empty policy would pass everything" in refusal(tmp_path, "")
    assert "no rule has severity 'block'" in refusal(tmp_path, rule(**AUC, severity="warn"))


WAIVER = '[[waivers]]\nrule = "r"\nreason = "why"\napprover = "A. Person"\nexpires = "2026-12-31"\n'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('reason = "why"\n', "", "waivers[1].reason is missing"),
        ('"why"', '"  "', "waivers[1].reason is '  '; expected a text like"),
        ('rule = "r"', 'rule = "rr"', "waivers[1].rule is 'rr'; there is no such rule."),
        ('"2026-12-31"', '"31.12.2026"', "expires is '31.12.2026'; expected a day such as \"2026-12-31\""),
        ('"2026-12-31"', '"2026-02-30"', "expires is '2026-02-30'"),
        ('"2026-12-31"', "2026-12-31", "a plan holds none"),
        ('approver = "A. Person"\n', "", "waivers[1].approver is missing"),
    ],
)
def test_a_waiver_needs_a_rule_a_reason_an_approver_and_a_day(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert said in refusal(tmp_path, rule(**AUC) + WAIVER.replace(old, new))


def test_lint_names_every_problem_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    text = (
        HEAD
        + "[self_test]\nmax_age_days = -1\n"
        + rule(id="a", **AUC | {"limit": "high"})
        + 'why = """\n[[rules]]\nid = "no rule"\n"""\n'
        + rule(id="b", **AUC | {"unit": "probability", "limit": 95})
        + rule(id="c", **AUC, severty="warn")
    )
    path.write_text(text, encoding="utf-8")
    content = text.split("\n")
    found = [(content[one.line - 1], one.says.split(";")[0]) for one in lint(path, today=date(2026, 11, 28))]
    assert [line for line, _ in found] == ["max_age_days = -1", 'limit = "high"', 'id = "b"', 'severty = "warn"']
    path.write_text(HEAD + rule(**AUC) + WAIVER.replace("2026-12-31", "2026-11-27"), encoding="utf-8")
    (one,) = lint(path, today=date(2026, 11, 28))
    assert text_at(path, one.line) == 'expires = "2026-11-27"'
    path.write_text(HEAD + "[[rules]\n", encoding="utf-8")
    (one,) = lint(path, today=date(2026, 11, 28))
    assert one.line == 6


def text_at(path: Path, line: int) -> str:
    return path.read_text(encoding="utf-8").split("\n")[line - 1]


def test_a_policy_that_is_no_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no policy at .*strct.toml. Give a TOML file"):
        load_policy(tmp_path / "strct.toml")
    assert Policy.model_config["extra"] == "forbid"
