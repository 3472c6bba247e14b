"""One thread that owns the model: it reads waiting prompts together, and draws a token for every running row in turn.

A second thread judges prompts before they come to the first: a long prompt takes the classifier seconds, in which the
running answers go on. It alone uses the model's own tokenizer, and asks nothing of the model; the first decodes with a
copy, since a tokenizer is not to be shared by threads.

A prompt's tokens depend on the prompt and its own settings; who shares the batch changes float rounding at most, and
its random numbers not at all. What fails is failed alone: prompts that cannot be read together are read in halves, down
to the one at fault, and the others never hear of it.
"""

from __future__ import annotations

import copy
import logging
import threading
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch

from audit.answers.systems import Bare, Judged, Prepared
from audit.errors import InputError
from audit.lm.sharing import out_of_memory, release_memory, rope_switch

from . import caches
from .batch import Batch
from .counters import Counters
from .drawing import draw
from .jobs import Job

_LAST_STEP: Final = 5.0
"""Seconds that a step may still take when the engine stops."""

_TOGETHER: Final = 8_192
"""Characters of prompts that are judged together, unless one alone has more."""

_LOOK: Final = 0.1
"""Seconds between looks for prompts that have waited too long while one is judged and nothing runs."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the engine takes on.

    Attributes:
        max_rows: Prompts that run at a time.
        max_waiting: Prompts that wait at most; further ones are turned away.
        max_new_tokens: Tokens of one answer at most.
        prefill_tokens: Tokens, padding included, that are read at once at most, unless one prompt alone has more.
        seconds: From its arrival until a prompt is given up.

    Raises:
        InputError: One of them is below its least.
    """

    max_rows: int = 32
    max_waiting: int = 256
    max_new_tokens: int = 4096
    prefill_tokens: int = 16_384
    seconds: float = 300.0

    def __post_init__(self) -> None:
        for name in ("max_rows", "max_waiting", "max_new_tokens", "prefill_tokens"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"{name} is {value!r}; expected a whole number, 1 or more.")
        if not self.seconds > 0:
            raise InputError(f"seconds is {self.seconds!r}; expected a number above 0.")


class BusyError(Exception):
    """As many prompts wait as may."""


class StoppedError(Exception):
    """The engine takes no prompts: it is closing, or it died."""


class _Read(NamedTuple):
    """A prompt that was judged: its job, what was said of it, and how many tokens may be drawn."""

    job: Job
    judged: Judged
    limit: int


class Engine:
    """Answers jobs.

    Args:
        guard: What is served; a bare model for comparison.
        limits: What it takes on.
        counters: Where it counts.
    """

    def __init__(self, guard: Bare, *, limits: Limits | None = None, counters: Counters | None = None) -> None:
        self.guard, self.limits = guard, limits or Limits()
        self.counters = counters or Counters()
        self.counters.watch(waiting=lambda: self.n_waiting, running=lambda: self.n_running)
        self.batching: caches.Batching = "one at a time"
        self._stop_ids = frozenset(guard.stop_ids)
        self._switch = rope_switch(guard.lm.model)
        self._tokenizer = copy.deepcopy(guard.lm.tokenizer)
        self._unread: deque[Job] = deque()
        self._judging: list[Job] = []
        self._waiting: deque[_Read] = deque()
        self._batches: list[Batch] = []
        self._most_joined = self.limits.max_rows  # less where memory ran out
        self._full_at: int | None = None  # running rows beside which no further prompt fits into memory
        self._wake = threading.Condition()
        self._closing = False
        self._hurried = False  # what runs is not waited for any more
        self._dead: str | None = None
        self._thread = threading.Thread(target=self._run, name="palimpsest-eco", daemon=True)
        self._reader = threading.Thread(target=self._read_all, name="palimpsest-eco-judge", daemon=True)

    # --- from any thread ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()
        self._reader.start()

    def stop(self, *, seconds: float = 30.0) -> None:
        """Finish what runs, for so many seconds, and fail the rest."""
        with self._wake:
            self._closing = True
            for job in self._not_running():
                self._end(job, failed=("closing", "the server is shutting down."))
            self._unread.clear()
            self._waiting.clear()
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(seconds)
        self._hurried = True
        for thread in (self._thread, self._reader):
            if thread.is_alive():
                thread.join(_LAST_STEP)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue all of them, or none.

        Raises:
            BusyError: Too many wait.
            StoppedError: Nothing is taken any more.
        """
        with self._wake:
            if self._closing or not self.alive:
                raise StoppedError
            if self.n_waiting + len(jobs) > self.limits.max_waiting:
                raise BusyError
            self._unread.extend(jobs)
            self._wake.notify_all()

    @property
    def alive(self) -> bool:
        return self._dead is None and self._thread.is_alive()

    @property
    def n_waiting(self) -> int:
        return len(self._unread) + len(self._judging) + len(self._waiting)

    @property
    def n_running(self) -> int:
        return sum(len(batch) for batch in list(self._batches))

    def health(self) -> dict[str, Any]:
        """Whether it lives, how requests share the model, and how many there are."""
        status = "ok" if self.alive and not self._closing else "closing" if self.alive else "failed"
        return {"status": status, "batching": self.batching, "running": self.n_running, "waiting": self.n_waiting}

    # --- in the engine's own thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                self.batching = caches.batching_of(self.guard.lm.model, self._probe())
                while self._turn():
                    pass
        except BaseException as error:
            _log_error("the engine stopped", error)
            self._dead = type(error).__name__
        finally:
            with self._wake:
                self._closing = True
                left = [*self._not_running(), *self._running()]
                self._unread.clear()
                self._waiting.clear()
                self._batches.clear()
                self._wake.notify_all()
            for job in left:
                self._end(job, failed=("server", "the server stopped."))

    def _turn(self) -> bool:
        """One step of every batch; False when all is done and the engine closes."""
        with self._wake:
            self._sweep()
            while not self._waiting and not self._batches:
                if self._closing:
                    return False
                self._wake.wait(_LOOK if self._unread or self._judging else None)
                self._sweep()
            reads = [self._waiting.popleft() for _ in range(min(self._room(), len(self._waiting)))]
        self._admit(reads)
        for batch in list(self._batches):
            self._step(batch)
        return True

    def _probe(self) -> Any:
        """The cache of a single token; raises where the model does not run."""
        ids = torch.tensor([[self.guard.stop_ids[0] if self.guard.stop_ids else 0]], device=self.guard.lm.device)
        return getattr(self.guard.lm.model(input_ids=ids, use_cache=True), "past_key_values", None)

    def _not_running(self) -> list[Job]:
        return [*self._unread, *self._judging, *(read.job for read in self._waiting)]

    def _running(self) -> list[Job]:
        return [job for batch in list(self._batches) for job in batch.active]

    def _room(self) -> int:
        n_rows = self.n_running
        if self._full_at is not None and n_rows >= self._full_at:
            return 0
        self._full_at = None
        return max(0, self.limits.max_rows - n_rows)

    def _sweep(self) -> None:
        """Jobs that nobody waits for, or for too long, leave."""
        gone_before = [job for job in self._not_running() if self._is_over(job)]
        for job in gone_before:
            self._give_up(job)  # if it is being judged, the reader drops it
        if gone_before:
            self._unread = deque(job for job in self._unread if not job.over)
            self._waiting = deque(read for read in self._waiting if not read.job.over)
        for batch in list(self._batches):
            gone = [row for row, job in enumerate(batch.jobs) if job is not None and self._is_over(job)]
            for row in gone:
                self._give_up(batch.jobs[row])
            self._leave(batch, gone)

    def _is_over(self, job: Job) -> bool:
        return job.cancelled or job.late or self._hurried

    def _give_up(self, job: Job | None) -> None:
        assert job is not None
        if job.cancelled:
            self._end(job, cancelled=True)
        elif self._hurried:
            self._end(job, failed=("closing", "the server is shutting down."))
        else:
            self._end(job, failed=("deadline", f"there was no whole answer after {self.limits.seconds:g} seconds."))

    def _leave(self, batch: Batch, rows: Sequence[int]) -> None:
        try:
            batch.drop(rows)
        except Exception as error:  # half of the layers may be without the rows by now
            self._batches.remove(batch)
            self._fail(batch.active, error)
            return
        if not batch.active:
            self._batches.remove(batch)

    # Prompts come in

    def _admit(self, reads: Sequence[_Read]) -> None:
        """Read prompts together; where that fails, each half of them."""
        if not reads:
            return
        try:
            prepared = self.guard.batch([read.judged for read in reads])
            if len(reads) > 1 and not self._together(prepared, reads):
                self._halves(reads)
                return
            self._read(reads, prepared)
        except Exception as error:
            memory = isinstance(error, RuntimeError) and out_of_memory(error)
            if memory:
                release_memory(self.guard.lm.device)
            if len(reads) > 1:
                self._halves(reads)
            elif memory and self._batches:  # it may fit when others have left
                self._full_at = self.n_running
                with self._wake:
                    self._waiting.appendleft(reads[0])
            else:
                self._fail([read.job for read in reads], error)

    def _halves(self, reads: Sequence[_Read]) -> None:
        self._admit(reads[: len(reads) // 2])
        self._admit(reads[len(reads) // 2 :])

    def _limit(self, job: Job, n_prompt: int) -> int:
        """Tokens that may be drawn.

        Raises:
            InputError: The prompt leaves less room than was asked for.
        """
        room = self.guard.lm.n_context - n_prompt
        wanted = job.draw.max_new_tokens
        if room < (wanted or 1):
            raise InputError(
                f"the prompt has {n_prompt:,} tokens and {wanted or 1:,} new ones were asked for; the model holds "
                f"{self.guard.lm.n_context:,} in all. Shorten the prompt or lower max_tokens."
            )
        return min(wanted or room, room, self.limits.max_new_tokens)

    def _together(self, prepared: Prepared, reads: Sequence[_Read]) -> bool:
        if self.batching == "one at a time" or prepared.input_ids.numel() > self.limits.prefill_tokens:
            return False
        sizes = [(len(read.judged.encoded.ids), read.limit) for read in reads]
        groups = {_rope_group(n, n + more, self._switch) for n, more in sizes}
        return len(groups) == 1

    def _read(self, reads: Sequence[_Read], prepared: Prepared) -> None:
        batch = Batch(self.guard, prepared, [read.job for read in reads])
        tokens, fine = self._draw(batch)
        for job, judged, limit in reads:
            n_prompt, flagged = len(judged.encoded.ids), judged.verdict is not None and judged.verdict.flagged
            job.start(self._tokenizer, n_prompt=n_prompt, limit=limit, flagged=flagged)
            self.counters.started(n_prompt=n_prompt, flagged=flagged)
        self._batches.append(batch)
        self._take(batch, tokens, fine)
        if self.batching == "continuous" and batch in self._batches:
            self._merge(batch)

    def _merge(self, batch: Batch) -> None:
        for other in self._batches:
            if other is not batch and len(other) + len(batch) <= self._most_joined:
                try:
                    other.join(batch)
                except RuntimeError as error:
                    if not out_of_memory(error):
                        raise
                    release_memory(self.guard.lm.device)  # they run on beside each other
                else:
                    self._batches.remove(batch)
                return

    # Tokens go out

    def _step(self, batch: Batch) -> None:
        try:
            tokens, fine = self._draw(batch)
        except Exception as error:
            self._batches.remove(batch)
            if isinstance(error, RuntimeError) and out_of_memory(error):
                release_memory(self.guard.lm.device)
                parts = batch.halves()
                if parts is not None:
                    self._most_joined = max(1, len(batch) // 2)
                    self._batches += parts
                    return
            self._fail(batch.active, error)
            return
        self._take(batch, tokens, fine)

    def _draw(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        logits = batch.next_logits()
        rows = [job or batch.active[0] for job in batch.jobs]  # what a row that is over draws is not used
        uniforms = [0.0 if job is None else job.uniform() for job in batch.jobs]
        return draw(logits, [job.draw for job in rows], uniforms)

    def _take(self, batch: Batch, tokens: torch.Tensor, fine: torch.Tensor) -> None:
        batch.accept(tokens)
        over = []
        for row, (job, token, is_fine) in enumerate(zip(batch.jobs, tokens.tolist(), fine.tolist(), strict=True)):
            if job is None:
                continue
            if not is_fine:
                _log.error("the model's logits are not finite; its dtype may be too small for it")
                self._end(job, failed=("server", "the model gave no finite numbers for this prompt."))
                over.append(row)
                continue
            try:
                reason = job.take(token, self._stop_ids)
            except Exception as error:  # of the tokenizer
                self._fail([job], error)
                over.append(row)
                continue
            if reason is not None:
                self.counters.ended(reason, n_new=job.n_new)
                over.append(row)
        self._leave(batch, over)

    # What fails

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        """Tell the askers; if nobody's prompt is at fault, see whether the model still runs."""
        if self._tell(jobs, error):
            self._probe()

    def _tell(self, jobs: Sequence[Job], error: Exception) -> bool:
        """Tell the askers; whether it is neither the prompts' nor the memory's fault."""
        for job in jobs:
            if isinstance(error, InputError):
                self._end(job, failed=("prompt", str(error)))
            elif isinstance(error, RuntimeError) and out_of_memory(error):
                self._end(job, failed=("memory", "memory ran out on this prompt. Shorten it, or ask again later."))
            else:
                self._end(job, failed=("server", "the model failed on this prompt."))
        if isinstance(error, InputError) or (isinstance(error, RuntimeError) and out_of_memory(error)):
            return False
        _log_error("a batch failed", error)
        return True

    def _end(self, job: Job, *, failed: tuple[Any, str] | None = None, cancelled: bool = False) -> None:
        with self._wake:  # both threads end jobs
            if job.over:
                return
            if failed is not None:
                job.fail(*failed)
            job.over = True
            self.counters.ended("cancelled" if failed is None or cancelled else failed[0], n_new=job.n_new)

    # --- in the reader's own thread ----------------------------------------------------------------------------------

    def _read_all(self) -> None:
        """Judge prompts as they come, until the engine closes."""
        try:
            with torch.inference_mode():
                while self._next_to_judge():
                    self._judge(self._judging)
                    with self._wake:
                        self._judging = []
                        self._wake.notify_all()
        except BaseException as error:
            _log_error("prompts are not judged any more", error)
            self._dead = type(error).__name__
            with self._wake:
                self._closing = True
                self._wake.notify_all()

    def _next_to_judge(self) -> bool:
        """Take the prompts that have waited longest, a few of them together; False when the engine closes."""
        with self._wake:
            while not self._unread:
                if self._closing:
                    return False
                self._wake.wait()
            room = _TOGETHER
            while self._unread and (room > 0 or not self._judging):
                room -= len(str(self._unread[0].prompt))
                if room < 0 and self._judging:
                    break
                self._judging = [*self._judging, self._unread.popleft()]
        return True

    def _judge(self, jobs: Sequence[Job]) -> None:
        """Verdicts on prompts together; where that fails, on each half of them."""
        try:
            encoded = self.guard.encoded([job.prompt for job in jobs])
            self.guard.check_room([len(one.ids) for one in encoded], [0] * len(encoded))
            limits = [self._limit(job, len(one.ids)) for job, one in zip(jobs, encoded, strict=True)]
            judged = self.guard.judged(encoded)
        except Exception as error:
            if isinstance(error, RuntimeError) and out_of_memory(error):
                release_memory(self.guard.lm.device)
            if len(jobs) == 1:
                self._tell(jobs, error)
                return
            self._judge(jobs[: len(jobs) // 2])
            self._judge(jobs[len(jobs) // 2 :])
            return
        with self._wake:
            reads = zip(jobs, judged, limits, strict=True)
            self._waiting.extend(_Read(*read) for read in reads if not read[0].over)
            self._judging = [job for job in self._judging if job not in jobs]
            self._wake.notify_all()


def _rope_group(n_prompt: int, n_most: int, switch: int | None) -> int:
    """Prompts of one group pass a longrope model's switch at the same step, or never; see `audit.lm.generate`."""
    if switch is None or n_most <= switch:
        return 0
    return n_prompt if n_prompt <= switch else switch + 1


def _log_error(what: str, error: BaseException) -> None:
    """Without the error's own words, which can quote a prompt."""
    places = "".join(traceback.format_tb(error.__traceback__))
    _log.error("%s: %s\n%s", what, type(error).__name__, places)
