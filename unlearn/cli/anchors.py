"""``palimpsest unlearn anchors FORGET --out ANCHORS``."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit.cli import options
from audit.errors import InputError
from audit.text.safe import counted, for_terminal, quoted

if TYPE_CHECKING:
    from audit.extraction.completions import Server

    from ..whp.anchor_prompts import ModelAnchors
    from ..whp.anchors import Joined

SHOWN = 10


def anchors(
    forget: Annotated[Path, typer.Argument(help="The text to be forgotten: txt, or a folder of txt; jsonl, csv, ...")],
    out: Annotated[Path, typer.Option(help="Where the dictionary goes: .toml or .json, to be read and edited.")],
    contrast: Annotated[
        list[Path] | None,
        typer.Option(
            help="Text of the same kind that the model is to keep; without it only names are found. May be given more "
            "than once."
        ),
    ] = None,
    min_count: Annotated[int, typer.Option(help="Occurrences of a name at least.")] = 2,
    statistics: Annotated[
        bool | None,
        typer.Option(
            "--statistics/--no-statistics", help="Find terms by counting. [default: yes, unless a model is asked]"
        ),
    ] = None,
    by_model: Annotated[
        str | None,
        typer.Option(help="Ask a language model here, one that follows instructions: a folder, or a Hugging Face id."),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(help="Ask an OpenAI-compatible server (chat completions), to which the text is sent."),
    ] = None,
    served_model: Annotated[str | None, typer.Option(help="Name of the model at --endpoint.")] = None,
    key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the key of --endpoint.")] = None,
    rpm: Annotated[float | None, typer.Option(help="Requests a minute at most. [default: no limit]")] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds that one answer may take at most. [default: 600]")
    ] = None,
    passage: Annotated[int, typer.Option(help="Characters that a model reads at a time, 200 or more.")] = 6_000,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of a model's answer at most.")] = 2_048,
    merge: Annotated[
        list[Path] | None,
        typer.Option(
            help="A dictionary of yours to be taken in; it is right where others differ. May be given more than once."
        ),
    ] = None,
    seed: options.Seed = 0,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    device_map: options.DeviceMap = None,
    trust_remote_code: options.TrustRemoteCode = False,
    quiet: options.Quiet = False,
    as_json: options.AsJson = False,
) -> None:
    """Find the terms that belong to a text alone, and give each a common substitute.

    By counting, which needs no model and no network; or by a language model that reads the text passage by passage,
    here or at a server. What several sources find is merged. A model's answers are kept in OUT.replies, and a command
    that was killed asks for none of them again.

    Read the file before you use it: a term that other texts hold too is forgotten with the text.
    """
    from ..whp.anchor_files import read_anchors, write_anchors
    from ..whp.anchor_statistics import StatisticsPlan, anchors_from_statistics
    from ..whp.anchors import joined
    from .texts import whole_text

    _check_flags(by_model, endpoint, served_model, {"--key-env": key_env, "--rpm": rpm, "--timeout": timeout})
    _check_out(out)
    _check_ranges(rpm=rpm, timeout=timeout, passage=passage, max_new_tokens=max_new_tokens)
    counting = statistics if statistics is not None else by_model is None and endpoint is None
    if not (counting or by_model or endpoint or merge):
        raise InputError("--no-statistics leaves no source; give --by-model, --endpoint or --merge.")
    if contrast and not counting:
        raise InputError("--contrast is for counting, which a model takes the place of; add --statistics for both.")
    given = [read_anchors(path) for path in merge or ()]
    text = whole_text(forget)[0]
    other = "\n\n".join(whole_text(path)[0] for path in contrast) if contrast else None
    found, asked = {}, None
    if by_model is not None:
        subject = options.subject(
            by_model,
            revision=revision,
            adapter=None,
            dtype=dtype,
            device=device,
            device_map=device_map,
            trust_remote_code=trust_remote_code,
        )
        asked = _by_model(subject, text, out, passage=passage, max_new_tokens=max_new_tokens, quiet=quiet)
    if endpoint is not None and served_model is not None:
        server = _server(endpoint, served_model, key_env, rpm=rpm, timeout=timeout)
        asked = _by_server(server, text, out, passage=passage, max_new_tokens=max_new_tokens, quiet=quiet)
    if asked is not None:
        found["model"] = asked.anchors
    if counting:
        plan = StatisticsPlan(min_count=min_count, seed=seed)
        found["statistics"] = anchors_from_statistics(text, other, plan=plan).anchors
    whole = joined(given, list(found.values()))
    sizes = {str(path): len(one) for path, one in zip(merge or (), given, strict=True)}
    sizes |= {name: len(one) for name, one in found.items()}
    if not len(whole.anchors):
        _complain_of_replies(asked)
        raise InputError(f"no anchor term was found in {forget} ({_sizes(sizes)}); {_next_step(counting)}")
    write_anchors(out, whole.anchors)
    _tell(out, whole, sizes, asked, as_json=as_json)


def _check_flags(
    by_model: str | None, endpoint: str | None, served_model: str | None, of_server: Mapping[str, object]
) -> None:
    if by_model is not None and endpoint is not None:
        raise InputError("--by-model asks a model here and --endpoint one at a server; give one of them.")
    for flag, value in {"--served-model": served_model, **of_server}.items():
        if endpoint is None and value is not None:
            raise InputError(f"{flag} is of a server, and none is named; give --endpoint, or leave {flag} out.")
    if endpoint is not None and not served_model:
        raise InputError("--endpoint needs --served-model, the name of the model there.")


def _check_out(out: Path) -> None:
    if out.suffix.lower() not in (".toml", ".json"):
        raise InputError(f"--out {out} ends in {out.suffix or 'nothing'}; expected .toml or .json.")
    if out.exists():
        raise InputError(f"--out {out} exists, and may hold what you edited. Choose another, or remove it.")
    if not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.absolute().parent}. Make it first.")


def _check_ranges(*, rpm: float | None, timeout: float | None, passage: int, max_new_tokens: int) -> None:
    ranges = {
        "--rpm": (rpm, rpm is None or 0 < rpm < math.inf, "a positive number"),
        "--timeout": (timeout, timeout is None or 0 < timeout < math.inf, "a positive number"),
        "--passage": (passage, passage >= 200, "200 characters or more"),
        "--max-new-tokens": (max_new_tokens, max_new_tokens >= 1, "1 or more"),
    }
    for flag, (value, fits, expected) in ranges.items():
        if not fits:
            raise InputError(f"{flag} is {value}; expected {expected}.")


def _by_model(subject: Any, text: str, out: Path, *, passage: int, max_new_tokens: int, quiet: bool) -> ModelAnchors:
    options.quiet_libraries()  # before torch is imported
    from audit.lm.load import load

    from ..whp.anchor_replies import asks_model

    lm = load(subject)
    who = {"model": lm.fingerprint.to_record(), "dtype": str(lm.model.dtype), "max_new_tokens": max_new_tokens}
    return _ask(asks_model(lm, max_new_tokens=max_new_tokens), who, text, out, passage=passage, quiet=quiet)


def _by_server(server: Server, text: str, out: Path, *, passage: int, max_new_tokens: int, quiet: bool) -> ModelAnchors:
    options.quiet_libraries()
    from ..whp.anchor_replies import asks_server

    who = {"url": server.url, "model": server.model, "max_new_tokens": max_new_tokens}
    return _ask(asks_server(server, max_new_tokens=max_new_tokens), who, text, out, passage=passage, quiet=quiet)


def _server(url: str, model: str, key_variable: str | None, *, rpm: float | None, timeout: float | None) -> Server:
    from audit.extraction.completions import Server

    settings: dict[str, Any] = {} if timeout is None else {"answer_seconds": timeout, "read_seconds": timeout}
    return Server(url, model, key_variable, per_minute=rpm, **settings)


def _ask(ask: Any, who: dict[str, Any], text: str, out: Path, *, passage: int, quiet: bool) -> ModelAnchors:
    """Every passage's terms; the answers of ``who`` have a folder of their own beside OUT."""
    from audit.progress import progress_bars
    from audit.runs.records import content_key

    from ..whp.anchor_prompts import anchors_from_model
    from ..whp.anchor_replies import Replies

    store = Replies(_replies_folder(out) / content_key(**who)[:20])
    with progress_bars(quiet=quiet) as progress:
        return anchors_from_model(
            ask, text, n_characters=passage, store=store, on_done=lambda done, n: progress("ask", done, n)
        )


def _replies_folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.replies")


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{size:,} of {name}" for name, size in sizes.items())


def _next_step(counting: bool) -> str:
    if counting:
        return "give a longer text, a smaller --min-count, or write the file yourself."
    return "see what the model answered, try another model or --statistics, or write the file yourself."


def _complain_of_replies(asked: ModelAnchors | None) -> None:
    if asked is not None and asked.unread:
        reason = asked.unread[0].reason
        n = counted(len(asked.replies), "answer")
        print(
            for_terminal(f"note: {len(asked.unread):,} of {n} of the model gave nothing; first reason: {reason}."),
            file=sys.stderr,
        )


def _tell(out: Path, whole: Joined, sizes: Mapping[str, int], asked: ModelAnchors | None, *, as_json: bool) -> None:
    _complain_of_replies(asked)
    if as_json:
        record = {
            "out": str(out),
            "n_anchors": len(whole.anchors),
            "sources": dict(sizes),
            "pruned": list(whole.pruned),
            "overruled": list(whole.overruled),
            "dropped": [str(problem) for problem in whole.dropped],
        }
        print(json.dumps(record))
        return
    print(for_terminal(f"{counted(len(whole.anchors), 'anchor term')} -> {out}"))
    if len(sizes) > 1 or asked is not None:
        left_out = {
            "pruned, as other keys translate them": len(whole.pruned),
            "left out, as a substitute of yours holds them": len(whole.overruled),
            "of their substitutes unfit": len(whole.dropped),
        }
        told = "".join(f"; {n:,} {why}" for why, n in left_out.items() if n)
        print(for_terminal(f"found: {_sizes(sizes)}{told}"))
    for one in list(whole.anchors)[:SHOWN]:
        kind = "" if one.kind is None else f" ({one.kind})"
        print(for_terminal(f"  {quoted(one.key)} -> {', '.join(map(quoted, one.substitutes))}{kind}"))
    if len(whole.anchors) > SHOWN:
        print(f"  and {len(whole.anchors) - SHOWN:,} more in the file")
    if "statistics" in sizes:
        print("Read and edit it before use: a term that other texts hold too is forgotten with the text.")
