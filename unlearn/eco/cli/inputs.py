"""What a plan names, read: rows, names, groups, the folder of a guard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from audit.answers.formats import PromptFormat
from audit.answers.rows import ChoiceRow, QaRow, read_choices, read_groups, read_qa
from audit.errors import DataError, InputError
from audit.lm.checkpoint import find_folder
from audit.lm.load import Tokens
from audit.lm.subject import Subject
from audit.lm.tokens import encode
from audit.text.files import sha256_file
from audit.text.safe import did_you_mean, quoted

from ..calibration import one_sided, one_sided_by_group, two_sided
from ..conversations import conversations, units
from ..deal import Dealt
from ..fit import FitPlan, NotEnoughError, Texts, reworded
from ..guard_files import RECORD

GUARD = "guard"
ROW_FILES = ("forget", "retain", "never")


def read_rows(path: Path, table: Any) -> list[QaRow] | list[ChoiceRow]:
    """Rows of the kind that the plan says."""
    return read_choices(path) if table.choices else read_qa(path, cluster_size=table.cluster_size)


def read_texts(table: Any, plan: Path) -> tuple[Texts, dict[str, str]]:
    """What a guard is fitted on, and the SHA-256 of each file.

    Raises:
        InputError, DataError: A file is missing, of an unknown kind, empty or damaged.
    """
    rows: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    for field in ROW_FILES:
        file = table.path(field, plan)
        if file is not None:
            rows[field], inputs[field] = read_rows(file, table), sha256_file(file)
    lines: dict[str, tuple[str, ...]] = {}
    for field in ("names", "others"):
        file = table.path(field, plan)
        if file is not None:
            lines[field], inputs[field] = read_names(file), sha256_file(file)
    groups = {}
    if table.group_field is not None:
        groups = read_groups(table.path("retain", plan), table.group_field)
    texts = Texts(
        rows["forget"], rows["retain"], rows.get("never", ()), lines.get("names", ()), lines.get("others", ()), groups
    )
    return texts, inputs


def read_names(path: Path) -> tuple[str, ...]:
    """A name a line; blank lines are passed over.

    Raises:
        InputError: There is no such file.
        DataError: It is not UTF-8, or holds no name.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"there is no file of names at {path}.") from None
    except OSError as error:
        raise InputError(f"could not read the names in {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}). Save it as UTF-8, with a name a line.") from error
    found = tuple(dict.fromkeys(" ".join(line.split()) for line in text.splitlines() if line.strip()))
    if not found:
        raise DataError(f"{path} holds no names; expected a name a line. Leave it out where there are none.")
    return found


def guard_folder(path: Path) -> Path:
    """The folder with ``guard.json``: the path itself, or ``guard`` in it.

    Raises:
        InputError: There is neither.
    """
    for folder in (path, path / GUARD):
        if (folder / RECORD).is_file():
            return folder
    if not path.exists():
        near = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"there is no guard at {quoted(str(path), limit=200)}.{did_you_mean(path.name, near)}")
    raise InputError(
        f"{quoted(str(path), limit=200)} holds no guard: there is no {RECORD} in it or in its folder {GUARD}. Give OUT "
        "of `palimpsest eco fit`, once it has ended."
    )


def check_enough(texts: Texts, dealt: Dealt, plan: FitPlan) -> None:
    """Refuse, before anything is trained, a promise that the calibration prompts are too few for.

    Raises:
        NotEnoughError: Says how many are needed.
    """
    for rows in (dealt.calibration, dealt.test):
        conversations(rows, plan.turns, seed=plan.seed)  # refuses too few for one
    n = len(dealt.calibration) // plan.turns
    n_misses = len(reworded(dealt.tuning)) if plan.alpha_forget is not None else 0
    if plan.alpha_forget is not None and n_misses:  # without any, the fit says what is lacking
        both = two_sided([0.0] * n, [0.0] * n_misses, alpha_retain=plan.alpha, alpha_forget=plan.alpha_forget)
        found = [both.retain, both.forget]
    elif texts.groups:
        labels = [texts.groups[row.id] for row in dealt.calibration]
        found = list(one_sided_by_group([0.0] * n, labels, alpha=plan.alpha).values())
    else:
        found = [one_sided([0.0] * n, alpha=plan.alpha)]
    warnings = [one.warning for one in found if one.warning is not None]
    if not warnings:
        return
    misses = f" {n_misses:,} rewordings (forget scores) bound the misses." if n_misses else ""
    needed, made = "", f" ({n:,} {units(plan.turns)})" if plan.turns > 1 else ""
    if not texts.groups and found[0].warning is not None:
        n_all = math.ceil(found[0].n_needed * len(texts.retain) / n)
        needed = f", so that about {n_all:,} are needed in all"
    raise NotEnoughError(
        f"{'; '.join(warnings).rstrip('.')}. {len(texts.retain):,} retain prompts were given, of which "
        f"{len(dealt.calibration):,} were dealt to the calibration{made}{needed}.{misses} Give more, or a larger rate."
    )


def check_dims(subject: Subject, dims: int | None) -> None:
    """Refuse, before the weights are loaded, more dims than the model's embeddings have by its configuration.

    Raises:
        InputError: Says how many they have.
        ModelError: As `audit.lm.load.load_tokens`.
    """
    folder = find_folder(subject.model, revision=subject.revision, trust_remote_code=subject.trust_remote_code)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=subject.trust_remote_code, local_files_only=True)
    text = config.get_text_config()
    # OPT's embeddings are narrower than its layers.
    width = getattr(text, "word_embed_proj_dim", None) or getattr(text, "hidden_size", None)
    if dims is not None and isinstance(width, int) and dims > width:
        raise InputError(f"dims is {dims:,}; the model's embeddings have {width:,} numbers. Give so many or fewer.")


def check_prompts(
    tokens: Tokens, form: PromptFormat, rows: Sequence[QaRow | ChoiceRow], name: str, *, room: int = 0
) -> None:
    """Refuse, before anything is made, a model without the format, and rows that do not fit it.

    Args:
        tokens: The model's tokenizer and context.
        form: How a prompt becomes its input.
        rows: Prompts, with their answers.
        name: What the rows are.
        room: Tokens that are to be written behind each prompt.

    Raises:
        InputError: The row is named.
    """
    for row in rows:
        try:
            n_prompt = len(form.encode(tokens, row.asked).ids)
        except InputError as error:
            raise InputError(f"{name} row {quoted(row.id)}: {error}") from error
        answers = [row.answer, row.paraphrased_answer, *row.wrong] if isinstance(row, QaRow) else []
        n_after = max([room, *map(len, encode(tokens, answers))]) if answers else room
        if n_prompt + n_after > tokens.n_context:
            raise InputError(
                f"{name} row {quoted(row.id)} has {n_prompt:,} tokens, and {n_after:,} for the answer; the model reads "
                f"at most {tokens.n_context:,}. Shorten it, or leave it out."
            )
