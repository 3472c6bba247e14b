"""``palimpsest gate RUN [RUN ...]``, and ``gate explain|lint|policies``."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.core import TyperGroup

from ..errors import InputError
from ..text.safe import did_you_mean, for_terminal
from . import options

if TYPE_CHECKING:
    from typer._click.core import Context

    from ..gates.policy import LoadedPolicy
    from ..gates.result import GateResult

CHECK = "check"
Format = Literal["text", "json", "junit", "sarif", "github"]
HELP = (
    "Judge finished runs by a written policy. `palimpsest gate RUN --policy FILE` is short for `palimpsest gate check "
    "RUN --policy FILE`. Exit code 0: pass; 1: breached; 2: bad policy or input; 3: a run has not ended; 4: "
    "inconclusive; 5: the self-test failed, or is asked for and absent or too old."
)


class GateGroup(TyperGroup):
    """A group whose first verb may be left out: anything that is no verb's name begins the arguments of `check`."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [CHECK, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=GateGroup, rich_markup_mode=None, add_completion=False, no_args_is_help=True, help=HELP)
PolicyOption = Annotated[
    str, typer.Option(metavar="FILE|NAME", help="A policy in TOML, or the name of a shipped one: see `gate policies`.")
]
Today = Annotated[
    str | None, typer.Option(metavar="YYYY-MM-DD", help="Day on which waivers are read; default today, in UTC.")
]
DifferentModels = Annotated[
    bool, typer.Option("--different-models", help="Allow runs of models with other weights to be judged together.")
]
Heads = Annotated[
    list[str] | None,
    typer.Option("--head", metavar="HEX", help="Published head of a run's seal; once for each run, in their order."),
]
PublicKey = Annotated[
    Path | None, typer.Option(help="The key that must have signed every seal: PEM, OpenSSH, raw or hexadecimal.")
]


@app.callback()
def main() -> None:
    """Judge finished runs by a written policy."""


@app.command(CHECK)
def check(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of complete runs, judged together.")],
    policy: PolicyOption,
    format: Annotated[Format, typer.Option(help="What to write.")] = "text",
    out: Annotated[Path | None, typer.Option(help="Write there instead of to standard output.")] = None,
    today: Today = None,
    different_models: DifferentModels = False,
    head: Heads = None,
    public_key: PublicKey = None,
) -> None:
    """Judge runs by a policy; the exit code is the verdict."""
    loaded, result = _judge(runs, policy, today, different_models, head, public_key)
    written = _written(result, loaded, format)
    if out is None:
        print(written, end="")
    else:
        options.refuse_inside_run(out)
        from ..text.files import write_text

        write_text(out, written)
        print(for_terminal(f"{result.verdict}: {options.shown(out)}"))
    sys.exit(result.exit_code)


@app.command()
def explain(
    rule: Annotated[str, typer.Argument(help="Id of a rule.")],
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of complete runs.")],
    policy: PolicyOption,
    today: Today = None,
    different_models: DifferentModels = False,
    head: Heads = None,
    public_key: PublicKey = None,
) -> None:
    """Say what a rule looked at, and what would have to change for it to hold."""
    from ..gates.formats.text import day_text, explain_text

    _, result = _judge(runs, policy, today, different_models, head, public_key)
    found = next((one for one in result.rules if one.id == rule), None)
    if found is None:
        known = [one.id for one in result.rules]
        raise InputError(f"the policy has no rule {rule!r} (there are: {', '.join(known)}).{did_you_mean(rule, known)}")
    print(explain_text(found) + "\n".join([day_text(result), ""]), end="")


@app.command()
def lint(
    policies: Annotated[list[str], typer.Argument(metavar="POLICY...", help="Policy files, or names of shipped ones.")],
    today: Today = None,
) -> None:
    """Check policies without a run: every problem at its line; exit code 2 where there is one."""
    from ..gates.lint import lint as linted
    from ..gates.shipped import find_policy

    day = _day(today)
    problems = [one for given in policies for one in linted(find_policy(given), today=day)]
    for one in problems:
        print(for_terminal(f"{one.path}:{one.line}: {one.says}").replace("\n", " "), file=sys.stderr)
    if problems:
        sys.exit(2)
    print(f"{len(policies)} {'policy' if len(policies) == 1 else 'policies'} without a problem")


@app.command()
def policies() -> None:
    """List the shipped policies: name, title, where the file is."""
    from ..gates.policy import load_policy
    from ..gates.shipped import shipped

    for name, path in shipped().items():
        found = load_policy(path).policy
        print(for_terminal(f"{name}: {found.title}\n    {path}"))


def _judge(
    runs: list[Path],
    policy: str,
    today: str | None,
    different_models: bool,
    heads: list[str] | None,
    public_key: Path | None,
) -> tuple[LoadedPolicy, GateResult]:
    from ..gates.policy import load_policy
    from ..gates.shipped import find_policy
    from ..gates.verdict import gate
    from ..runs.seal.check import parse_head
    from ..runs.seal.signing import read_public_key

    day = _day(today)
    loaded = load_policy(find_policy(policy))
    _warn_of_the_day(loaded, day)
    return loaded, gate(
        runs,
        loaded,
        today=day,
        today_given=today is not None,
        different_models=different_models,
        heads=[parse_head(one) for one in heads or ()],
        public_key=None if public_key is None else read_public_key(public_key),
    )


def _warn_of_the_day(loaded: LoadedPolicy, day: date) -> None:
    """Tells of waivers that count on the day that was given, and no more by the clock."""
    now = datetime.now(UTC).date()
    for waiver in loaded.policy.waivers:
        if day <= waiver.last_day < now:
            told = f"on {day} the waiver of {waiver.rule} counts; it expired on {waiver.expires}, and it is {now}."
            print(for_terminal(f"warning: {told}"), file=sys.stderr)


def _day(text: str | None) -> date:
    from ..gates.policy import parse_day

    if text is None:
        return datetime.now(UTC).date()
    try:
        return parse_day(text, "--today")
    except ValueError as error:
        raise InputError(str(error)) from None


def _written(result: GateResult, loaded: LoadedPolicy, format: Format) -> str:
    from ..gates.formats.github import as_github
    from ..gates.formats.junit import as_junit
    from ..gates.formats.sarif import as_sarif
    from ..gates.formats.text import as_text

    where = Path(options.shown(loaded.path))
    if format == "json":
        return result.canonical()
    if format == "junit":
        return as_junit(result)
    if format == "sarif":
        return as_sarif(result, where)
    return as_github(result, where) if format == "github" else as_text(result)
