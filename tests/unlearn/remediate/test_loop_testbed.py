"""The loop on the small testbed, whose truth was planted: known answers, and kills at every step."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from audit.runs.store import Run
from audit.testbed.planted import Testbed, build
from unlearn.cli.demo_files import write_loop_files

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow
NPO = '[remedies.npo]\nmethod = "npo"\nsettings = { steps = 10, rate = 1e-4, batch_size = 8, block = 128 }\n'


@pytest.fixture(scope="module")
def testbed() -> Testbed:
    return build("small", models=("reference", "subject", "retrained", "retrained_2"), device="cpu")


def plan_of(testbed: Testbed, folder: Path, models: dict[str, Path], *, audits: str = "", remedies: str = "") -> Path:
    files = write_loop_files(testbed.world, folder)
    tables = "".join(f'[{role}]\nmodel = "{path}"\ndevice = "cpu"\n' for role, path in models.items())
    forget = (
        f'[forget]\nrows = "{files.forget_rows.name}"\ntexts = "{files.forget_texts.name}"\n'
        f'names = "{files.names.name}"\n'
    )
    keep = "".join(
        f'[{name}]\nrows = "{getattr(files, f"{name}_rows").name}"\ntexts = "{getattr(files, f"{name}_texts").name}"\n'
        for name in ("keep", "never")
    )
    general = f'[general]\ntexts = "{files.general_texts.name}"\n'
    verify = (
        '[verify]\nattacks = ["prompts", "quantisation", "relearning"]\nbits = [4]\nmax_rows = 120\nmax_controls = 48\n'
        "max_new_tokens = 32\nrelearn_rate = 5e-4\nrelearn_unrelated = false\nrelearn_seeds = 2\nrelearn_steps = 10\n"
    )
    path = folder / "plan.toml"
    path.write_text(tables + forget + keep + general + audits + verify + remedies, encoding="utf-8")
    return path


def command(plan: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "audit", "remediate", str(plan), "--out", str(out)]


def record_of(out: Path) -> dict[str, Any]:
    """The run's record without seconds."""
    record: dict[str, Any] = json.loads((out / "verification.json").read_text(encoding="utf-8"))
    for one in record["verdicts"].values():
        if one["cost"] is not None:
            one["cost"].pop("seconds")
    return record


def copy_with(source: Path, target: Path, change: Any) -> Path:
    """A checkpoint whose weights ``change`` has altered."""
    model = AutoModelForCausalLM.from_pretrained(source)
    torch.manual_seed(0)
    with torch.no_grad():
        change(model)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)
    return target


def perturb_one_head(model: Any) -> None:
    """Noise of a tenth of their spread on the weights that read the first head of the middle layer."""
    layer = model.model.layers[len(model.model.layers) // 2].self_attn
    weights = layer.o_proj.weight[:, : layer.head_dim]
    weights.add_(0.1 * weights.std() * torch.randn_like(weights))


def randomise(model: Any) -> None:
    for parameter in model.parameters():
        parameter.normal_(std=0.02)


def test_known_answers(testbed: Testbed, tmp_path: Path) -> None:
    """The untouched subject and a copy with one head perturbed are not removed, gold's second seed is removed, and
    random weights are destroyed: the last two as subjects' second golds, which the loop judges like remedies."""
    models = testbed.models
    told = {}
    for name, second in (
        ("second seed", models["retrained_2"]),
        ("one head", copy_with(models["subject"], tmp_path / "one-head", perturb_one_head)),
        ("random", copy_with(models["subject"], tmp_path / "random", randomise)),
    ):
        folder = tmp_path / name.replace(" ", "-")
        roles = {"subject": models["subject"], "gold": models["retrained"], "gold_2": second}
        plan = plan_of(testbed, folder / "data", roles)
        done = subprocess.run(command(plan, folder / "run"), capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode in (0, 4), done.stderr
        verdicts = record_of(folder / "run")["verdicts"]
        told[name] = verdicts["gold_2"]["verdict"]
        told["subject"] = verdicts["subject"]["verdict"]
        assert told["subject"] == "not removed", name
    assert told == {
        "subject": "not removed",
        "second seed": "removed",
        "one head": "not removed",
        "random": "destroyed",
    }


def test_killed_at_every_step_it_ends_with_the_same_table(testbed: Testbed, tmp_path: Path) -> None:
    """SIGKILL at a random moment of each step, once each, and then to the end."""
    models = testbed.models
    roles = {"subject": models["subject"], "gold": models["retrained"]}
    audits = (
        f'[audits.reference]\nmodel = "{models["reference"]}"\ndevice = "cpu"\n'
        f'[audits.traps]\ntable = "{testbed.traps_path}"\nprimary = "ratio"\n'
    )
    plan = plan_of(testbed, tmp_path / "data", roles, audits=audits, remedies=NPO)
    subprocess.run(command(plan, tmp_path / "whole"), capture_output=True, cwd=ROOT, check=False)
    seconds = [stage.seconds for stage in Run.open(tmp_path / "whole").record.stages]
    expected = record_of(tmp_path / "whole")
    moments = random.Random(5)
    killed: set[int] = set()
    for _ in range(40):
        process = subprocess.Popen(command(plan, tmp_path / "cut"), stderr=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stderr is not None
        for line in process.stderr:
            step = re.match(r"Step (\d+) of (\d+):", line)
            if step and int(step[1]) not in killed:
                assert int(step[2]) == len(seconds)
                time.sleep(moments.uniform(0.0, 0.8 * seconds[int(step[1]) - 1]))
                if process.poll() is None:
                    killed.add(int(step[1]))
                process.kill()
                break
        process.stderr.close()
        if process.wait() in (0, 4):
            break
    assert len(killed) >= len(seconds) - 1  # the last step is short and may have ended before its kill
    assert record_of(tmp_path / "cut") == expected
    assert (tmp_path / "cut" / "report.html").exists()
