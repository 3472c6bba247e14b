"""Look for the traps of a ledger in a corpus: which are there, how often and where, members and decoys alike.

A member should be there as often as it was planted. A decoy must not: one that is has leaked, was never unknown to
whoever trained on the corpus, and is no control any more. Counts are of the whole corpus, not of a sample, so they have
no interval; they are as complete as what could be read, which is told beside them.

Exact copies are found by `audit.traps.scan.exact`, near ones by `audit.traps.scan.near` (the traps specification,
section 6).
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Final

from ...errors import DataError, IncompleteRunError, InputError
from ...progress import Progress, silent
from ...text.safe import counted
from ..ledger.records import Ledger
from .counts import ScanResult, Tally
from .shards import Corpus, Unit
from .store import Found, Lines, ScanStore, asked_for, found_in, write_hits
from .units import Scanner, ScanPlan, UnitRecord

STAGE: Final = "scanning, MB"


def scan(
    ledger: Ledger,
    corpus: Corpus,
    plan: ScanPlan,
    *,
    workers: int = 1,
    out: Path | None = None,
    restart: bool = False,
    progress: Progress = silent,
) -> ScanResult:
    """Scans a corpus for the traps of a ledger.

    Args:
        ledger: A ledger that fits itself.
        corpus: What `audit.traps.scan.shards.plan_corpus` gave.
        plan: What `plan_of` gave for the same ledger.
        workers: Processes, 1 or more; they share no memory, and 1 is this process.
        out: Where the hits go, .jsonl or .parquet; None: nowhere, and then a scan that is cut off begins anew.
        restart: Throw away what an earlier attempt with the same ``out`` finished.
        progress: Called with megabytes done.

    Returns:
        The same whatever ``workers`` is and however often the scan was cut off, except for times.

    Raises:
        InputError: A file has no such field or may not be read, the traps are too short for the distance, or another
            scan with the same ``out`` was cut off.
        DataError: Files or records could not be read (without ``skip_bad``), or the corpus holds no text.
        IncompleteRunError: A worker was killed.
        StorageError: Something cannot be written.
    """
    if workers < 1:
        raise InputError(f"workers is {workers}; expected 1 or more.")
    began = time.monotonic()
    units = corpus.units
    asked = asked_for(ledger, plan)
    with _folder(out) as folder, ScanStore(Path(folder), asked, corpus.places, restart=restart) as store:
        todo = [unit for unit in units if not store.has(unit)]
        _scan_units(todo, n_bytes=sum(map(_size, units)), plan=plan, workers=workers, store=store, progress=progress)
        seconds = time.monotonic() - began
        tally = Tally(ledger)
        lines = Lines()
        for unit in units:
            record = _kept(store, unit)
            before = lines.before(unit, record)
            tally.add_unit(unit, record, before)
            for found in found_in(unit, record, before, ledger):
                tally.add(found)
        _judge(tally, plan, kept=None if out is None else Path(folder))
        if out is not None:
            write_hits(out, _all_found(store, units, ledger))
            store.remove()
    return tally.result(
        n_bytes=sum(map(_size, units)),
        n_scanned=sum(map(_size, todo)),
        seconds=seconds,
        workers=max(1, min(workers, len(todo))),
        left_out=corpus.left_out,
    )


def plan_of(ledger: Ledger, **how: Any) -> ScanPlan:
    """The plan of a scan for every trap of a ledger; ``how`` are the other fields of `ScanPlan`."""
    ids, texts = tuple(trap.id for trap in ledger.traps), tuple(trap.text for trap in ledger.traps)
    return ScanPlan(trap_ids=ids, trap_texts=texts, **how)


def units_folder(out: Path) -> Path:
    """Where finished units lie until the hits are written."""
    return out.with_name(f"{out.name}.parts")


def _folder(out: Path | None) -> AbstractContextManager[str]:
    return tempfile.TemporaryDirectory() if out is None else nullcontext(str(units_folder(out)))


def _size(unit: Unit) -> int:
    return sum(part.end - part.begin for part in unit)


def _kept(store: ScanStore, unit: Unit) -> UnitRecord:
    record = store.read(unit)
    if record is None:
        raise IncompleteRunError(f"{store.folder}: a finished unit is gone. Run the same command again.")
    return record


def _all_found(store: ScanStore, units: Sequence[Unit], ledger: Ledger) -> Iterator[Found]:
    lines = Lines()
    for unit in units:
        record = _kept(store, unit)
        yield from found_in(unit, record, lines.before(unit, record), ledger)


def _scan_units(
    units: Sequence[Unit], *, n_bytes: int, plan: ScanPlan, workers: int, store: ScanStore, progress: Progress
) -> None:
    done = n_bytes - sum(map(_size, units))

    def keep(unit: Unit, record: UnitRecord) -> None:
        nonlocal done
        store.write(unit, record)
        done += _size(unit)
        progress(STAGE, -(-done // 10**6), -(-n_bytes // 10**6))

    progress(STAGE, done // 10**6, -(-n_bytes // 10**6))
    if min(workers, len(units)) <= 1:
        scanner = Scanner(plan)
        for unit in units:
            keep(unit, scanner.scan(unit))
        return
    Scanner(plan)  # so that what is wrong with the plan is told once, and here
    strangers = set(active_children())
    # Spawned, not forked: a forked process would inherit the locks of torch's and pyarrow's threads.
    pool = ProcessPoolExecutor(
        min(workers, len(units)), mp_context=get_context("spawn"), initializer=_begin_work, initargs=(plan,)
    )
    try:
        waiting: dict[Future[UnitRecord], Unit] = {}
        rest = iter(units)
        while True:
            for unit in islice(rest, 2 * workers - len(waiting)):
                waiting[pool.submit(_work, unit)] = unit
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                keep(waiting.pop(future), future.result())
    except BrokenProcessPool as error:
        raise IncompleteRunError(
            "a worker process was killed, perhaps because memory ran out; what was finished is kept where --out is "
            "given. Run the same command again, with fewer --workers."
        ) from error
    except BaseException:
        for child in set(active_children()) - strangers:
            child.terminate()  # what it was doing is not kept, so there is nothing to wait for
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_scanner: Scanner | None = None  # of a worker process


def _begin_work(plan: ScanPlan) -> None:
    global _scanner
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that the user started
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one worker, one core
    Thread(target=_end_with_parent, daemon=True).start()
    _scanner = Scanner(plan)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(unit: Unit) -> UnitRecord:
    assert _scanner is not None
    return _scanner.scan(unit)


def _judge(tally: Tally, plan: ScanPlan, *, kept: Path | None) -> None:
    """Refuses a result that would pass over something that could not be read."""
    mended = f" What else was scanned is kept in {kept}; the same command then goes on from there." if kept else ""
    lines = "\n".join(f"- {problem}" for problem in tally.problems)
    more = f"\n- and {tally.n_bad - len(tally.problems):,} more" if tally.n_bad > len(tally.problems) else ""
    if tally.n_bad and not plan.skip_bad:
        raise DataError(
            f"the corpus: {counted(tally.n_bad, 'record or file')} could not be read, and a copy may stand there:\n"
            f"{lines}{more}\nMend them, or leave them out with --skip-bad-lines: they are then counted.{mended}"
        )
    if tally.n_lost_ranges:
        raise DataError(f"the corpus: a part of a file could not be read:\n{lines}{more}\nMend it.{mended}")
    if not tally.n_texts:
        why = f" What could not be read:\n{lines}{more}" if tally.problems else ""
        raise DataError(
            f"the corpus holds no text in field {plan.field!r}, so nothing was looked through.{why}{mended}"
        )
