"""LinEAS against its baselines; a Markdown table on standard output, everything as JSON where --out says.

    python -m tests.benchmarks.steering mood --work W --out mood.json    # or register
    python -m tests.benchmarks.steering stories --corpora C --models M --work W
    python -m tests.benchmarks.steering toxic --corpora C --work W

**mood, register**: the testbed's reference model. Steering sentences are n of the 64 texts of each side's split
"train", drawn by the seed; prompts are texts of the unwanted side's split "test", to be continued; judges learn from
the split "judge" and held-out stories, which show neither side; neutral texts are other held-out stories, target texts
those of the wanted side's split "test".

**stories**: the real checkpoint stories260k. Sentences of TinyStories' train split that hold a word of the unwanted or
the wanted list (sad, happy) and none of the other; prompts are beginnings of stories with a sad word of the validation
split.

**toxic**: the testbed's reference tuned on ParaDetox, both sides alike; source and target are other rows of it,
unpaired. Judges are trained on wiki-toxicity-test and davidson-hate-offensive.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from audit.lm.load import load
from audit.matching.encode import Encoder, load_encoder
from audit.testbed.planted import build

from . import stories, toxic
from .study import BASELINES, USUAL, Data, nothing_to_find, study
from .testbed import data as testbed_data

STRENGTHS = (0.25, 0.5, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=["mood", "register", "stories", "toxic"])
    parser.add_argument("--work", type=Path, required=True, help="points are kept here, and a killed study goes on")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--corpora", type=Path, default=Path("../shared/corpora"))
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n", type=int, default=32, help="steering sentences on each side")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--methods", nargs="*", default=[*USUAL, *BASELINES])
    parser.add_argument("--strengths", nargs="*", type=float, default=STRENGTHS)
    parser.add_argument(
        "--null", action="store_true", help="both sides are drawn from the unwanted one: nothing to find"
    )
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    encoder: Encoder | None = load_encoder(device=arguments.device)
    found: Data
    if arguments.study == "stories":
        lm = load(arguments.models / "stories260k")
        found = stories.data(arguments.corpora, arguments.prompts)
    elif arguments.study == "toxic":
        lm = load(toxic.model(arguments.corpora, arguments.work / "model", arguments.device))
        found = toxic.data(arguments.corpora, arguments.prompts)
    else:
        testbed = build("small", seed=0, device=arguments.device, models=["reference"])
        lm = load(testbed.folder / "models" / "reference")
        found = testbed_data(testbed.world, arguments.study, arguments.prompts)
    if arguments.null:
        found = nothing_to_find(found)
    record = study(
        lm, found, encoder, methods=arguments.methods, strengths=arguments.strengths, seeds=range(arguments.seeds),
        n=arguments.n, work=arguments.work,
    )  # fmt: skip
    print(record["table"])
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
