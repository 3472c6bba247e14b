"""ECO on models whose truth is known: the testbed's people, TOFU and MMLU with models that were tuned on them.

    python -m tests.benchmarks.eco testbed [--size small] [--seed 0] [--out FILE.json]
    python -m tests.benchmarks.eco tofu --corpora DIR [--size gpu|pilot|smoke] [--device cuda] [--forget forget10 ...]
    python -m tests.benchmarks.eco mmlu --corpora DIR [--size gpu] [--device cuda] [--recognise-only]
    python -m tests.benchmarks.eco testbed|tofu --show --out FILE.json

Each guard is fitted twice, without names and with them. --make alone makes one of the models, so that several can be
made side by side.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audit.answers.formats import PromptFormat
from audit.answers.qa import USEFUL
from audit.answers.rows import QaRow
from audit.lm.load import LanguageModel, load
from audit.lm.subject import Subject
from audit.matching.encode import Encoder, load_encoder
from audit.testbed.planted import build
from audit.text.files import write_json
from tests.benchmarks.eco import mmlu, tofu
from tests.benchmarks.eco import testbed as people
from tests.benchmarks.eco.show import shown
from tests.benchmarks.eco.study import fitted, forgotten, recognised, searched
from tests.benchmarks.unlearning.models import SIZES, say
from unlearn.eco.deal import deal
from unlearn.eco.fit import FitPlan, Texts, embedding_teacher, fit_judge


def study(
    name: str,
    lm: LanguageModel | None,
    gold: LanguageModel | None,
    texts: Texts,
    plan: FitPlan,
    form: PromptFormat,
    parts: Any,
    general: Sequence[str],
    flags: argparse.Namespace,
    second: LanguageModel | None = None,
) -> dict[str, Any]:
    say(name)
    encoder = _encoder(flags)
    record: dict[str, Any] = {"name": name}
    if flags.recognise_only:
        dealt = deal(texts.forget, texts.retain, shares=plan.shares, seed=plan.seed)
        judge, calibration, *_ = fit_judge(texts, dealt, plan, teach=embedding_teacher(encoder, plan))
        record["recognised"] = recognised(judge, dealt, calibration, general, seed=flags.seed, skip=flags.skip)
        return record
    assert lm is not None
    assert gold is not None
    made = fitted(lm, texts, plan, form, encoder, say)
    if not flags.forget_only:
        record["recognised"] = recognised(
            made.guard.judge, made.dealt, made.calibration, general, seed=flags.seed, skip=flags.skip
        )
    record["search"] = searched(made)
    say(f"strength {made.guard.settings.corruption.strength}")
    audit = [row for row in made.dealt.audit if isinstance(row, QaRow)]
    record["forgotten"] = forgotten(
        made,
        gold,
        {part: own for part, own in parts(audit).items() if part in flags.parts},
        second_gold=second,
        target=plan.target,
        n_keys=flags.keys,
        n_new=flags.new,
        seed=flags.seed,
        say=say,
        leave_out=flags.leave_out,
    )
    return record


def plan_of(flags: argparse.Namespace, target: str, *, with_names: bool) -> FitPlan:
    return FitPlan(
        target,
        alpha=flags.alpha,
        dims=flags.dims,
        selection="names" if with_names and flags.select_names else "all",
        metrics=tuple(flags.metrics),
        scope=flags.scope,
        max_new_tokens=flags.new,
        seed=flags.seed,
    )


def on_testbed(flags: argparse.Namespace) -> list[dict[str, Any]]:
    made = build(flags.size, seed=flags.seed, models=("subject", "retrained", "retrained_2"))
    lm, gold, second = (load(Subject(str(made.models[one]), device=flags.device)) for one in made.models)
    records = []
    for with_names in _both(flags):
        texts = people.texts_of(made, with_names=with_names)
        plan = plan_of(flags, "some invented people", with_names=with_names)
        name = f"testbed {flags.size}, seed {flags.seed}, {'with' if with_names else 'without'} names"
        records.append(
            study(
                name,
                lm,
                gold,
                texts,
                plan,
                people.FORM,
                lambda rows: people.parts_of(made, rows),
                people.general(),
                flags,
                second,
            )
        )
        _keep(records, flags)
    return records


def on_tofu(flags: argparse.Namespace) -> list[dict[str, Any]]:
    lm, gold = None, None
    if not flags.recognise_only:
        found = _models(flags)
        found.make_base()
        for name in ("full", *(tofu.FORGET[one] for one in flags.forget)):
            found.make(name)
        lm = load(found.subject("full"))
    records: list[dict[str, Any]] = []
    for forget in flags.forget:
        if lm is not None:
            gold = load(found.subject(tofu.FORGET[forget]))
        for with_names in _both(flags):
            texts = tofu.texts_of(flags.corpora, forget, with_names=with_names)
            plan = plan_of(flags, "some fictitious authors", with_names=with_names)
            name = f"TOFU {forget}, {'with' if with_names else 'without'} names"
            records.append(
                study(
                    name,
                    lm,
                    gold,
                    texts,
                    plan,
                    tofu.FORM,
                    lambda rows: tofu.parts_of(found, rows),
                    tofu.general(flags.corpora),
                    flags,
                )
            )
            _keep(records, flags)
    return records


def on_mmlu(flags: argparse.Namespace) -> None:
    encoder = _encoder(flags)
    record: dict[str, Any] = {
        "recognised": mmlu.recognise(flags.corpora, encoder, alpha=flags.alpha, seed=flags.seed, pairs=flags.pairs)
    }
    if not flags.recognise_only:
        found = _models(flags)
        found.make_base()
        for name in found.models:
            found.make(name)
        if flags.out:
            write_json(flags.out, record)
        record["forgotten"] = mmlu.forget(found, encoder, alpha=flags.alpha, seed=flags.seed)
    if flags.out:
        write_json(flags.out, record)


def _both(flags: argparse.Namespace) -> tuple[bool, ...]:
    return {"with": (True,), "without": (False,), "both": (False, True)}[flags.names]


def _encoder(flags: argparse.Namespace) -> Encoder:
    """Its vectors are kept with the models, since the studies share most prompts."""
    return load_encoder(flags.encoder, device=flags.device, cache=flags.work / "vectors" if flags.work else None)


def _models(flags: argparse.Namespace) -> Any:
    if flags.work is None:
        raise SystemExit("give --work the folder that the models are kept in.")
    size = SIZES[flags.size]
    key = hashlib.sha256(repr(size).encode()).hexdigest()[:8]
    folder = flags.work / f"{flags.size}-{flags.seed}-{key}"
    given = {"seed": flags.seed, "device": flags.device, "passes": flags.passes, "batch": flags.batch}
    if flags.experiment == "mmlu":
        return mmlu.MmluModels(flags.corpora, folder, size, n_questions=flags.questions, **given)
    return tofu.TofuModels(flags.corpora, folder, size, n_authors=flags.authors, **given)


def _keep(records: list[dict[str, Any]], flags: argparse.Namespace) -> None:
    print("\n" + shown(records[-1]) + "\n", flush=True)
    if flags.out:
        given = {name: getattr(flags, name) for name in ("size", "seed", "authors", "passes", "batch")}
        write_json(flags.out, {"given": given, "records": records})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=["testbed", "tofu", "mmlu"])
    parser.add_argument("--corpora", type=Path, default=Path("corpora"), help="folder with gutenberg-books and tofu")
    parser.add_argument("--size", default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alpha", type=float, default=0.01)
    parser.add_argument("--dims", type=int, default=1)
    parser.add_argument("--keys", type=int, default=10, help="noise keys")
    parser.add_argument("--new", type=int, default=48, help="tokens of a greedy answer")
    parser.add_argument("--forget", nargs="+", choices=list(tofu.FORGET), default=list(tofu.FORGET))
    parser.add_argument("--encoder", type=Path, help="folder of another sentence encoder")
    parser.add_argument("--work", type=Path, help="models of TOFU, kept there")
    parser.add_argument("--passes", type=int, help="over the rows that a model is tuned on")
    parser.add_argument("--batch", type=int, help="rows in a step")
    parser.add_argument("--authors", type=int, help="of TOFU's 200, all of forget10 among them")
    parser.add_argument("--pairs", nargs="+", help="of MMLU that are recognised: economics, law, physics")
    parser.add_argument("--questions", type=int, help="of each MMLU subject, the shortest")
    parser.add_argument("--make", help="make this model of TOFU and stop")
    parser.add_argument("--select-names", action="store_true", help="with names, corrupt those alone")
    parser.add_argument("--metrics", nargs="+", default=["probability"], choices=["probability", "rouge"])
    parser.add_argument("--scope", default="prompt", choices=["prompt", "prompt+answer"], help="of the search")
    parser.add_argument("--names", choices=["with", "without", "both"], default="both")
    parser.add_argument("--recognise-only", action="store_true", help="measure no forgetting; needs no model")
    parser.add_argument("--skip", nargs="+", default=[], help="attacks that are left out")
    parser.add_argument("--forget-only", action="store_true", help="measure no recognition")
    parser.add_argument("--parts", nargs="+", default=["forget", *USEFUL], choices=["forget", *USEFUL])
    parser.add_argument("--leave-out", nargs="+", default=[], choices=["filter", "prefix"], help="unmeasured systems")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", action="store_true", help="print the tables of --out, run nothing")
    flags = parser.parse_args()
    if flags.show:
        for record in json.loads(flags.out.read_text())["records"]:
            print(shown(record) + "\n")
    elif flags.make:
        found = _models(flags)
        found.make_base() if flags.make == "base" else found.make(flags.make)
    else:
        {"testbed": on_testbed, "tofu": on_tofu, "mmlu": on_mmlu}[flags.experiment](flags)


if __name__ == "__main__":
    main()
