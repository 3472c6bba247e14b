"""The pipelines, the hook and the container file can be what they are said to be: valid, and in today's words."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from audit.cli.group import make_group

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "ci"
GITHUB, GITLAB, HOOK = (
    EXAMPLES / f"{name}" for name in ("github-actions.yml", "gitlab-ci.yml", "pre-commit-config.yaml")
)
PAGE, CONTAINER = ROOT / "docs" / "ci.md", ROOT / "Containerfile"
SCHEMAS = Path(__file__).parent / "schemas"
ENDS = {"||", "|", "&&", ";", ">", ">>", "2>", "<", "&"}


def loaded(path: Path) -> dict[str, Any]:
    """The file as YAML 1.2 reads it, where ``on`` is no truth value."""
    value = yaml.safe_load(re.sub(r"^on:", '"on":', path.read_text(), flags=re.MULTILINE))
    assert isinstance(value, dict)
    return value


def shells(path: Path) -> list[str]:
    """Every piece of shell in an example, in order."""
    value, found = loaded(path), []
    if path == GITHUB:
        for job in value["jobs"].values():
            found += [step["run"] for step in job["steps"] if "run" in step]
    elif path == GITLAB:
        for job in (value["default"], value["policies"], value["audit"]):
            found += [*job.get("before_script", []), *job.get("script", [])]
    elif path == HOOK:
        found += [hook["entry"] + " policies/release.toml" for repo in value["repos"] for hook in repo["hooks"]]
    return found


def page_shells() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    inline = [one for one in re.findall(r"`(palimpsest [^`]+)`", PAGE.read_text()) if one != "palimpsest gate lint"]
    return blocks + inline


def commands(shell: str) -> Iterator[list[str]]:
    """The arguments of each ``palimpsest`` in a piece of shell, variables filled in."""
    for line in shell.replace("\\\n", " ").splitlines():
        filled = re.sub(r"\$\{\{.*?\}\}", "x", line).replace("$format", "json")
        tokens = shlex.split(filled, comments=True)
        image = len(tokens) > 1 and tokens[1] == "run" and "palimpsest" in tokens
        starts = [at for at, one in enumerate(tokens) if one == "palimpsest" and (image or at == 0)]
        for start in starts[-1:]:
            rest = tokens[start + 1 :]
            end = next((at for at, one in enumerate(rest) if one in ENDS), len(rest))
            yield rest[:end]


def parse(arguments: list[str]) -> None:
    """Parses a command as the command line would, and runs nothing."""
    command, name = make_group(), "palimpsest"
    context = command.make_context(name, list(arguments))
    while hasattr(command, "resolve_command"):
        rest = [*getattr(context, "_protected_args", []), *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


FOUND = [
    pytest.param(arguments, id=f"{name}: {' '.join(arguments)}"[:90])
    for name, pieces in [
        *((path.name, shells(path)) for path in (GITHUB, GITLAB, HOOK)),
        (PAGE.name, page_shells()),
    ]
    for piece in pieces
    for arguments in commands(piece)
]


def test_commands_are_found_everywhere() -> None:
    for path, least in ((GITHUB, 7), (GITLAB, 7), (HOOK, 1)):
        assert sum(len(list(commands(piece))) for piece in shells(path)) >= least, path
    assert sum(len(list(commands(piece))) for piece in page_shells()) >= 10
    assert any(one.values[0][:1] == ["audit"] and "audit.toml" in one.values[0] for one in FOUND)


@pytest.mark.parametrize("arguments", FOUND)
def test_every_command_exists_with_these_flags(arguments: list[str]) -> None:
    parse(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["gate", "run"],
        ["gate", "run", "--policy", "p", "--format", "xml"],
        ["report", "run", "--colour"],
        ["seal", "run"],
    ],
    ids=" ".join,
)
def test_a_command_that_does_not_exist_would_be_noticed(arguments: list[str]) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|missing|is not|one of"):
        parse(arguments)


@pytest.mark.parametrize(
    ("path", "schema"), [(GITHUB, "github-workflows.json"), (GITLAB, "gitlab-ci.json")], ids=lambda one: Path(one).name
)
def test_a_pipeline_fits_its_published_schema(path: Path, schema: str) -> None:
    rules = json.loads((SCHEMAS / schema).read_text())
    validator = jsonschema.Draft7Validator(rules)
    assert list(validator.iter_errors(loaded(path))) == []
    broken = loaded(path)
    (broken["jobs"]["audit"] if path == GITHUB else broken["audit"])[
        "timeout-minutes" if path == GITHUB else "script"
    ] = {}
    assert list(validator.iter_errors(broken))


# What the steps do with each exit code

STAND_IN = """#!/bin/sh
echo "$@" >> calls.txt
case "$1" in
    audit) exit "$AUDIT" ;;
    gate) exit "$GATE" ;;
    doctor) exit "$DOCTOR" ;;
    runs) exit "$SEAL" ;;
esac
"""


def ends_with(
    path: Path, folder: Path, *, audit: int = 0, gate: int = 0, doctor: int = 0, seal: int = 0
) -> tuple[int, list[str]]:
    """Runs the audit job's shell as its runner would; the exit code, and what was called."""
    (folder / "palimpsest").write_text(STAND_IN)
    (folder / "palimpsest").chmod(0o755)
    (folder / "calls.txt").write_text("")
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}", "AUDIT": str(audit), "GATE": str(gate), "DOCTOR": str(doctor),
        "SEAL": str(seal),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }  # fmt: skip
    value = loaded(path)
    if path == GITHUB:
        steps = [
            (step.get("shell"), step["run"])
            for step in value["jobs"]["audit"]["steps"]
            if "run" in step and step["name"] != "Install"
        ]
    else:
        steps = [("bash", "\n".join(value["audit"]["script"]))]
    code = 0
    for shell, script in steps:  # GitHub: `bash -e`, and with pipefail only where a shell is named
        flags = ["-e", "-o", "pipefail"] if shell else ["-e"]
        code = subprocess.run(["bash", *flags, "-c", script], cwd=folder, env=environment, check=False).returncode
        if code:
            break
    return code, (folder / "calls.txt").read_text().splitlines()


@pytest.mark.parametrize("path", [GITHUB, GITLAB], ids=lambda path: path.name)
@pytest.mark.parametrize(
    ("codes", "wanted", "last"),
    [
        ({}, 0, "gate"),
        ({"gate": 1}, 1, "gate"),
        ({"gate": 4}, 4, "gate"),
        ({"gate": 5}, 5, "gate"),
        ({"gate": 2}, 2, "gate"),
        ({"audit": 4}, 0, "gate"),
        ({"audit": 4, "gate": 4}, 4, "gate"),
        ({"audit": 2}, 2, "audit"),
        ({"audit": 3}, 3, "audit"),
        ({"doctor": 5}, 5, "doctor"),
        ({"seal": 2}, 2, "runs"),
    ],
    ids=str,
)
def test_a_pipeline_ends_with_the_gates_verdict_and_stops_at_what_failed(
    tmp_path: Path, path: Path, codes: dict[str, int], wanted: int, last: str
) -> None:
    code, calls = ends_with(path, tmp_path, **codes)
    assert code == wanted
    assert calls[-1].split()[0] == last


# The container file


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", CONTAINER.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def is_ignored(path: str) -> bool:
    """As .dockerignore has it: the last pattern that fits a path or one of its folders decides."""
    ignored = False
    parts = path.split("/")
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        fits = any(fnmatch.fnmatchcase("/".join(parts[: n + 1]), pattern) and pattern.count("/") <= n
                   for n in range(len(parts)))  # fmt: skip
        if pattern.startswith("**/"):
            fits = any(fnmatch.fnmatchcase(part, pattern[3:]) for part in parts)
        if fits:
            ignored = not line.startswith("!")
    return ignored


def test_what_the_image_copies_is_there_and_nothing_else_reaches_the_build() -> None:
    copied = [
        source
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert {"audit", "unlearn", "constraints.txt", "data/policies"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists(), source
        assert not is_ignored(source), source
    for secret in (
        "run/seal.secret",
        "key.pem",
        ".git",
        "palimpsest-runs",
        "data/models",
        "audit/__pycache__/x.pyc",
        "tests",
    ):
        assert is_ignored(secret), secret


def test_the_image_ends_as_a_user_and_fetches_nothing_in_its_last_stage() -> None:
    listed = instructions()
    stages = [at for at, (name, _) in enumerate(listed) if name == "FROM"]
    last = listed[stages[-1] :]
    assert {name for name, _ in listed} <= {
        "FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD",
    }  # fmt: skip
    assert [rest for name, rest in last if name == "USER"] == ["10001:10001"]
    assert all("pip" not in rest and "apt" not in rest for name, rest in last if name == "RUN")
    entry = next(json.loads(rest) for name, rest in last if name == "ENTRYPOINT")
    assert entry == ["palimpsest"]
    assert all("://" not in rest for _, rest in listed)
