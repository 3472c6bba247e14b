"""The process that holds the model: questions come in on standard input, what happens goes out on standard output.

One JSON object a line, both ways. A process of its own can be ended at any moment, which a thread cannot: so a load
that takes minutes can be cancelled, the memory comes back whole, and a model that takes all of it takes no dashboard
along. It ends by itself when its standard input closes, however the dashboard ended.

    {"do": "answer", "number": 3, "asked": {...}}      {"do": "stop", "number": 3}
    {"number": 3, "event": "stage" | "loaded" | "format" | "guard" | "begins" | "grows" | "answer"
                           | "done" | "cancelled" | "refused" | "broken", ...}
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from audit.errors import AuditError

from .asked import Asked, CancelledError

_LONGEST_TRACE = 4_000  # characters


class _Line:
    """Questions in, words out."""

    def __init__(self, read: BinaryIO, write: BinaryIO) -> None:
        self._read, self._write = read, write
        self._lock = threading.Lock()
        self._to_stop: set[int] = set()
        self._number = 0
        self.stop = threading.Event()
        self.waiting: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()

    def begin(self, number: int) -> None:
        """From now on, this question is the one that speaks and can be stopped."""
        with self._lock:
            self._number = number
            self.stop.clear()
            if number in self._to_stop:
                self.stop.set()

    def tell(self, event: Mapping[str, Any]) -> None:
        with self._lock:
            self._write.write(json.dumps({"number": self._number, **event}).encode() + b"\n")
            self._write.flush()

    def listen(self) -> None:
        """Until nobody is there any more; then the process ends at once, whatever it does."""
        for line in self._read:
            told = json.loads(line)
            if told["do"] == "answer":
                self.waiting.put((told["number"], told["asked"]))
                continue
            with self._lock:
                self._to_stop.add(told["number"])  # it may not have begun yet
                if told["number"] == self._number:
                    self.stop.set()
        os._exit(0)


class _Worker:
    """Answers questions with a pair that is made at the first of them: torch takes seconds to import."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._pair: Any = None

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The last word on a question."""
        try:
            self._ready().answer(Asked(**asked))
        except AuditError as error:
            return {"event": "refused", "message": str(error)}
        except CancelledError:
            return {"event": "cancelled"}
        except Exception as error:
            # Ours, or a library's on a hostile folder: it is told, and the next question is answered.
            trace = "".join(traceback.format_exception(error))[-_LONGEST_TRACE:]
            return {"event": "broken", "message": f"{type(error).__name__}: {str(error)[:500]}", "trace": trace}
        return {"event": "done"}

    def _ready(self) -> Any:
        if self._pair is None:
            from audit.cli.options import quiet_libraries

            from .pair import Pair

            quiet_libraries()
            self._pair = Pair(self._line.tell, self._line.stop)
        return self._pair


def _first_to_go() -> None:
    """Where memory runs out, Linux is to end this process and no other."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def main() -> None:
    """Answers questions until standard input closes."""
    _first_to_go()
    write = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no event
    line = _Line(sys.stdin.buffer, write)
    threading.Thread(target=line.listen, name="playground-line", daemon=True).start()
    worker = _Worker(line)
    while True:
        number, asked = line.waiting.get()
        line.begin(number)
        line.tell(worker.answer(asked))
