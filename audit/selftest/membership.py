"""Membership scores of a table that was fitted on the members, and of one that was fitted on other texts.

The planted model is the table of the members' own word pairs (with a tenth of the uniform): every score must say so,
each higher for members. The null model is the table of a third set from the same draw, so members and others are
exchangeable for it: an AUC of 80 and 80 texts has a standard error of 0.046, and five of them to each side of 0.5 leave
a chance below 6e-7 a score (0.093 with the 20 and 20 of the neighbourhood). An AUC of 1 is expected of a planted score,
and less of recall, which here only the first word can tell; 0.75 is asked, five standard errors above 0.5.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..lm.load import LanguageModel
from ..membership import found, from_scores, neighbourhood, score, scored
from ..membership import run as membership
from ..membership.config import MembershipPlan
from ..membership.extras import Extras
from ..membership.score_names import EXTRA_SCORES, SCORES, score_names
from ..progress import silent
from ..runs.store import Run
from ..stats.estimate import Estimate
from ..text.readers import TextTable
from .answers import Instrument, Known, near, same, within
from .models import BOS, FIRST, Table, fitted_table, table_log_probs, table_model, word_list

_STEMS, _TEXTS, _FEW, _LENGTH = 60, 80, 20, 24
_WORDS = [
    word for stem in word_list(_STEMS) for word in (stem, stem.title())
]  # each in small letters and with a capital
_N = FIRST + len(_WORDS) + 1
_PLAN = MembershipPlan(primary="loss", n_splits=5, n_checks=100)
_FURTHER = tuple(one for one in EXTRA_SCORES if one != "neighbourhood")  # that one asks for many passes: fewer texts
PLANTED_LEAST = 0.75
NULL_LUCK = 6e-7


def ask(work: Path) -> Iterator[Known]:
    """One pass by hand, then the whole audit on a planted, a null and a confounded pair of sets."""
    rng = np.random.default_rng(4)
    members, others, third, shots = (draw(rng, n) for n in (_TEXTS, _TEXTS, _TEXTS, 2))
    tables = {name: fitted_table(texts, _N) for name, texts in (("planted", members), ("null", third))}
    models = {name: table_model(work / name, [*_WORDS, "\n"], table) for name, table in tables.items()}
    yield from _by_hand(models["planted"], tables["planted"], [*members[:20], *others[:20]])

    aucs = {}
    for name, subject in models.items():
        verdict, aucs[name] = _audit(work / f"run-{name}", members, others, subject, models["null"], shots)
        if name == "planted":
            yield same(
                "planted: verdict",
                verdict,
                "information",
                "the model was fitted on the suspect texts, which nothing else tells from the others",
            )
        else:
            yield same(
                "null: verdict is information",
                verdict == "information",
                False,
                "the AUC's interval holds 0.5 for this draw (in 2.5% of draws it lies above)",
            )
    for name, subject in models.items():
        aucs[name]["neighbourhood"] = _neighbourhood(subject, members[:_FEW], others[:_FEW])
    for one in SCORES:
        yield within(
            f"planted: AUC of {one}",
            aucs["planted"].get(one),
            PLANTED_LEAST,
            1.0,
            "every score is higher for members; see the head of the module",
            luck=NULL_LUCK,
        )
    for one in SCORES:
        if one in ("ratio", "ratio_of_losses"):
            yield near(f"null: AUC of {one}", aucs["null"].get(one), 0.5, "subject and reference are the same table")
        else:
            wide = 0.46 if one == "neighbourhood" else 0.23
            yield within(
                f"null: AUC of {one}",
                aucs["null"].get(one),
                0.5 - wide,
                0.5 + wide,
                "members and others are exchangeable",
                luck=NULL_LUCK,
            )
    yield from _verdicts()
    apart = [[FIRST + 2 * (word // 2 % 8) for word in text] for text in others]
    verdict, _ = _audit(work / "run-confounded", members, apart, models["planted"], models["null"], shots)
    yield same(
        "sets of other words: verdict",
        verdict,
        "confounded",
        "a bag of words tells them apart without the model, whatever the scores say",
    )


def _verdicts() -> Iterator[Known]:
    """Every branch of the verdict on found texts, by hand."""
    clear, vague = (Estimate(0.5, 0.5 - reach, 0.5 + reach, 0.99, 200, "AUC") for reach in (0.05, 0.4))
    lacking = Estimate.undefined(method="AUC", why="no word occurs in 5% of the texts")
    high, even, low = (Estimate(value, value - 0.1, value + 0.1, 0.95, 200, "AUC") for value in (0.8, 0.58, 0.2))
    for name, auc, words, told_apart, truth in (
        ("a high score, and nothing else tells the sets apart", high, clear, (), "information"),
        ("a high score, and a check that tells them apart", high, clear, ("the length",), "confounded"),
        ("a high score, and a check that could be as high", high, vague, (), "inconclusive"),
        ("a high score, and no check of words", high, lacking, (), "inconclusive"),
        ("a score whose interval holds 0.5", even, clear, (), "inconclusive"),
        ("a score that is lower for suspect texts", low, clear, (), "inconclusive"),
    ):
        blind = found.Blind(words, clear, clear, None, told_apart)
        verdict, _ = found.judge(found.Comparison("loss", auc, {}), blind)
        yield same(f"verdict: {name}", verdict, truth, "the rule of docs/methods/membership.md")


def draw(rng: np.random.Generator, n: int) -> list[list[int]]:
    """Texts of words that are drawn alike, no two alike."""
    return [rng.integers(FIRST, FIRST + len(_WORDS), _LENGTH).tolist() for _ in range(n)]


def text_of(ids: Sequence[int]) -> str:
    return "".join(_WORDS[place - FIRST] for place in ids)


def _by_hand(lm: LanguageModel, table: Table, sequences: Sequence[Sequence[int]]) -> Iterator[Known]:
    """Scores of one pass, from the table."""
    texts = [text_of(one) for one in sequences]
    scores = score.score_texts(lm, texts, ids=[f"t{place}" for place in range(len(texts))])
    log_p = [table_log_probs(table, one) for one in sequences]
    rows = [table[[BOS, *one[:-1]]] for one in sequences]
    means = [(p * np.log(p)).sum(axis=1) for p in rows]
    spreads = [np.sqrt((p * (np.log(p) - m[:, None]) ** 2).sum(axis=1)) for p, m in zip(rows, means, strict=True)]
    standard = [(one - mean) / spread for one, mean, spread in zip(log_p, means, spreads, strict=True)]
    n_low = int(0.2 * _LENGTH)
    sizes = np.array([len(zlib.compress(text.encode())) for text in texts])
    loss = np.array([-one.mean() for one in log_p])
    truth = {
        "loss": loss,
        "min_k": np.array([np.sort(one)[:n_low].mean() for one in log_p]),
        "min_k_plus_plus": np.array([np.sort(one)[:n_low].mean() for one in standard]),
        "min_20": np.array([np.sort(one)[:20].mean() for one in log_p]),
    }
    for name, values in truth.items():
        worst = float(np.abs(getattr(scores, name) - values).max())
        yield within(f"{name}: largest error", worst, 0, 1e-3, "its formula on the table's own log-probabilities")
    order = np.corrcoef(scores.zlib, -loss * _LENGTH / sizes)[0, 1]
    yield within(
        "zlib: correlation with log p / compressed size",
        float(order),
        0.99,
        1 + 1e-9,
        "both divide one by the other, in the same direction; units may differ",
    )


def _audit(
    folder: Path,
    members: Sequence[Sequence[int]],
    others: Sequence[Sequence[int]],
    subject: LanguageModel,
    reference: LanguageModel,
    shots: Sequence[Sequence[int]],
) -> tuple[str, dict[str, float | None]]:
    """The verdict on found texts, and the AUC of each score by name, with the steps that an audit takes."""
    extras = Extras(variants=True, lowercase=True, shots=tuple(map(text_of, shots)))
    items = membership.check_inputs(
        _table("members", members), _table("others", others), plan=_PLAN, has_reference=True, further=_FURTHER
    )
    texts = scored.Texts("membership", "texts", items["text_id"].tolist(), items["text"].tolist(), _PLAN.k, False)
    names = score_names(has_reference=True, further=_FURTHER)
    with Run.start(folder, kind="membership", plan={}, plan_text="", command=[]) as run:
        own = scored.scored(run, "subject", texts, lambda: subject, progress=silent, extras=lambda: extras)
        other = scored.scored(run, "reference", texts, lambda: reference, progress=silent)
    from_scores.add_scores(items, own, other, names)
    suspect = (items["side"] == "suspect").to_numpy()
    columns = {one: items[f"{one}_score"].to_numpy(dtype=float) for one in names}
    aucs: dict[str, float | None] = {one: _auc(values[suspect], values[~suspect]) for one, values in columns.items()}
    compared = {one.score: one for one in found.compare(items, names, level=_PLAN.level)}
    verdict, _ = found.judge(compared["loss"], found.blind(items, plan=_PLAN, control=None))
    by_pairs, said = aucs["loss"], compared["loss"].auc.value  # the same number by two ways
    same = said is not None and by_pairs is not None and abs(said - by_pairs) < 1e-9
    return verdict, {**aucs, "loss": said if same else None}


def _neighbourhood(lm: LanguageModel, members: Sequence[Sequence[int]], others: Sequence[Sequence[int]]) -> float:
    """AUC of the neighbourhood score, with few neighbours: each is a pass of its own."""
    every = [list(one) for one in (*members, *others)]
    names = [f"t{place}" for place in range(len(every))]
    values = neighbourhood.neighbourhood_scores(lm, every, [text_of(one) for one in every], ids=names, n=3, top_k=5)
    return _auc(values[: len(members)], values[len(members) :])


def _auc(a: np.ndarray, b: np.ndarray) -> float:
    """By counting pairs, so that `statistics` is not needed here."""
    return float(np.mean((a[:, None] > b) + (a[:, None] == b) / 2))


def _table(name: str, sequences: Sequence[Sequence[int]]) -> TextTable:
    ids = tuple(str(place) for place in range(len(sequences)))
    return TextTable(ids, tuple(map(text_of, sequences)), (), name, "0" * 64, ids)


INSTRUMENT = Instrument("membership", ask)
