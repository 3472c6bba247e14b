"""``palimpsest traps``: one file for each verb, or for a few that belong together."""

from __future__ import annotations

import typer

from . import deal, detect, fuzzy, generate, inject, ledger, power, scan, simulate

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    help="Copyright traps: draw, commit, deal, plant, scan for, detect and disclose them.",
)
app.command("generate")(generate.generate)
app.command("export")(ledger.export)
app.command("commit")(ledger.commit)
app.command("deal")(deal.deal)
app.command("verify-ledger")(ledger.verify_ledger)
app.command("disclose")(ledger.disclose)
app.command("inject")(inject.inject)
app.command("remove")(inject.remove)
app.command("detect")(detect.detect)
app.command("fuzz")(fuzzy.fuzz)
app.command("simulate")(simulate.simulate)
app.command("power")(power.power)
app.command("scan")(scan.scan)


@app.callback()
def main() -> None:
    """Copyright traps: draw, commit, deal, plant, scan for, detect and disclose them."""
