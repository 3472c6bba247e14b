"""Keeps the process with the model, and the line of questions before it: one for the whole server.

One model is in memory at a time, whoever asked for it; questions of several sessions are answered one after the other.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from audit.errors import InputError

from .asked import Asked

State = Literal["waiting", "running", "done", "cancelled", "failed"]
OVER: tuple[State, ...] = ("done", "cancelled", "failed")
MOST_WAITING = 16
_PACKAGES = str(Path(__file__).resolve().parents[2])
_START = "import sys; sys.path.append(sys.argv[1]); from dashboards.playground.worker import main; main()"
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(slots=True)
class Side:
    """One answer as far as it is.

    Attributes:
        most: Tokens at most.
        n: Tokens so far.
        text: So far.
        over: Whether it is whole.
        stopped: Whether the model ended it, and not ``most``.
        began: `time.monotonic` of its beginning.
        seconds: That it took.
    """

    most: int
    n: int = 0
    text: str = ""
    over: bool = False
    stopped: bool = False
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """At most, at the speed so far; None before there is one."""
        if self.over or not self.n:
            return None
        return (time.monotonic() - self.began) / self.n * (self.most - self.n)


@dataclass(slots=True)
class Job:
    """A question and what came of it. Nobody but the session that asked holds it.

    Attributes:
        asked: The question.
        state: Where it stands.
        stage: What is done now, in words.
        stage_bytes: Bytes of weights that are loaded now, 0 where none are.
        stage_began: `time.monotonic` of it.
        sides: "base" and "remedied", as far as they were begun.
        loaded: The same names -> facts of the model.
        form: How the prompt was put: kind, prefix, suffix.
        guard: The guard's decision, where there is one.
        message: Why it failed, or what a reader must know of its end.
        trace: Of an error of ours, its traceback.
        seen: `time.monotonic` when its page last looked.
    """

    asked: Asked
    state: State = "waiting"
    stage: str = ""
    stage_bytes: int = 0
    stage_began: float = field(default_factory=time.monotonic)
    sides: dict[str, Side] = field(default_factory=dict)
    loaded: dict[str, dict[str, Any]] = field(default_factory=dict)
    form: dict[str, str] = field(default_factory=dict)
    guard: dict[str, Any] | None = None
    message: str = ""
    trace: str = ""
    seen: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def over(self) -> bool:
        return self.state in OVER

    def hear(self, event: dict[str, Any]) -> None:
        """One word of the process."""
        kind = event["event"]
        if kind == "stage":
            self.stage, self.stage_bytes, self.stage_began = event["told"], event["n_bytes"], time.monotonic()
        elif kind == "loaded":
            self.loaded = self.loaded | {event["what"]: event}
        elif kind == "format":
            self.form = event
        elif kind == "guard":
            self.guard = event
        elif kind == "begins":
            self.stage = ""
            self.sides = self.sides | {event["side"]: Side(event["most"])}
        elif kind == "grows":
            side = self.sides[event["side"]]
            side.n, side.text = event["n"], event["text"]
        elif kind == "answer":
            side = self.sides[event["side"]]
            side.n, side.text, side.stopped = event["n"], event["text"], event["stopped"]
            side.seconds, side.over = event["seconds"], True


class _Process:
    """The process, and a thread that reads what it says."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, _PACKAGES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_OFFLINE},
            start_new_session=True,  # Ctrl-C in the server's terminal is the server's
        )
        self._heard: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, name="playground-reader", daemon=True).start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        try:
            with self._child.stdout as lines:
                for line in lines:
                    self._heard.put(json.loads(line))
        finally:
            self._heard.put(None)

    def say(self, told: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        with suppress(OSError, ValueError):  # it ended; `hear` says so
            self._child.stdin.write(json.dumps(told).encode() + b"\n")
            self._child.stdin.flush()

    def hear(self, seconds: float) -> dict[str, Any] | None:
        """The next word; None after the last.

        Raises:
            queue.Empty: There was none in this time.
        """
        return self._heard.get(timeout=seconds)

    @property
    def id(self) -> int:
        return self._child.pid

    def end(self) -> int:
        """Ends it now; gives its exit code, negative where a signal ended it."""
        self._child.kill()
        code = self._child.wait()
        assert self._child.stdin is not None
        with suppress(OSError):  # what was written and never read
            self._child.stdin.close()
        return code

    def exit_code(self) -> int:
        return self._child.wait()


class Keeper:
    """The line of questions, and the process that answers them.

    Args:
        grace: Seconds that a cancelled question may take to end by itself, before the process is ended.
        idle: Seconds without a question after which the model leaves the memory.
        unseen: Seconds after which a question whose page looks no more is cancelled.
    """

    def __init__(self, *, grace: float = 3.0, idle: float = 1800.0, unseen: float = 180.0) -> None:
        self._grace, self._idle, self._unseen = grace, idle, unseen
        self._line: deque[Job] = deque()
        self._wake = threading.Condition()
        self._running: Job | None = None
        self._process: _Process | None = None
        self._thread: threading.Thread | None = None
        self._number = 0
        self._closed = False
        self.in_memory: Asked | None = None
        """The last question to the model in memory; None where there is none."""

    def ask(self, asked: Asked) -> Job:
        """Puts a question at the end of the line.

        Raises:
            InputError: The prompt is blank, or too many wait.
        """
        if not asked.prompt.strip():
            raise InputError("there is no prompt; type what the model is to be asked.")
        job = Job(asked)
        with self._wake:
            if self._closed:
                raise InputError("the playground was closed on this server; load the page again.")
            if len(self._line) >= MOST_WAITING:
                raise InputError(f"{MOST_WAITING} questions wait already; ask again when some have been answered.")
            self._line.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="playground-keeper", daemon=True)
                self._thread.start()
            self._wake.notify_all()
        return job

    def cancel(self, job: Job) -> None:
        """Ends a question, wherever it stands; what it said so far stays with it."""
        job.stop.set()
        with self._wake:
            if job in self._line:
                self._line.remove(job)
                job.state = "cancelled"
            self._wake.notify_all()

    def ahead(self, job: Job) -> int:
        """Questions before it."""
        with self._wake:
            try:
                return self._line.index(job) + (self._running is not None)
            except ValueError:
                return 0

    def release(self) -> bool:
        """Takes the model out of memory; False while a question runs or waits."""
        with self._wake:
            if self._running is not None or self._line:
                return False
            self._end_process()
        return True

    @property
    def process_id(self) -> int | None:
        process = self._process
        return None if process is None else process.id

    def close(self) -> None:
        """Ends everything."""
        with self._wake:
            self._closed = True
            for job in [*self._line, *([self._running] if self._running else [])]:
                job.stop.set()
            self._line.clear()
            self._end_process()
            self._wake.notify_all()

    def _end_process(self) -> None:
        process, self._process, self.in_memory = self._process, None, None
        if process is not None:
            process.end()

    # In its own thread

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._serve(job)
            except Exception as error:  # ours; the next question gets a new process
                self._end_process()
                job.message, job.trace = f"{type(error).__name__}: {error}", traceback.format_exc()
                job.state = "failed"
            finally:
                with self._wake:
                    self._running = None
                    self.in_memory = job.asked if self._process is not None and "base" in job.loaded else None

    def _next(self) -> Job | None:
        with self._wake:
            while not self._line:
                if self._closed:
                    return None
                if not self._wake.wait(self._idle if self._process is not None else None):
                    self._end_process()
            self._running = self._line.popleft()
            return self._running

    def _serve(self, job: Job) -> None:
        job.state, job.stage, job.stage_began = "running", "Starting a process for the model", time.monotonic()
        with self._wake:
            if self._closed:
                job.state = "cancelled"
                return
            self._process = process = self._process or _Process()
        self._number += 1
        number = self._number
        process.say({"do": "answer", "number": number, "asked": job.asked.to_record()})
        told: float | None = None
        while True:
            now = time.monotonic()
            if told is None and now - job.seen > self._unseen:
                job.message = "Its page was not looked at for a while."
                job.stop.set()
            if told is None and job.stop.is_set():
                process.say({"do": "stop", "number": number})
                told = now
            elif told is not None and now - told > self._grace:
                self._end_process()
                job.message += " It did not stop by itself, so the model was taken out of memory."
                job.state = "cancelled"
                return
            try:
                event = process.hear(0.05)
            except queue.Empty:
                continue
            if event is None:
                self._gone(job, process)
                return
            if event["number"] != number:
                continue
            job.hear(event)
            if event["event"] == "done":
                job.state = "done"
                return
            if event["event"] == "cancelled":
                job.state = "cancelled"
                return
            if event["event"] in ("refused", "broken"):
                job.message, job.trace = event["message"], event.get("trace", "")
                job.state = "failed"
                return

    def _gone(self, job: Job, process: _Process) -> None:
        """The process ended in the middle of a question."""
        code = process.exit_code()
        self._end_process()
        if job.stop.is_set():
            job.state = "cancelled"
            return
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        job.message = (
            f"The process that held the model ended by itself ({how}). That happens when memory runs out: choose a "
            "smaller model, or ask for fewer tokens. The next question starts a new one."
        )
        job.state = "failed"
