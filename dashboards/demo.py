"""What stands where there are no runs: how to make one, and a button that makes the demo's."""

from __future__ import annotations

import atexit
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Final

import streamlit as st

from audit.text.safe import printable

from .plain import block, plain
from .store import Store

SWITCH: Final = "PALIMPSEST_DASHBOARD_PLAYGROUND"  # "off" where others can reach the pages
_TAIL: Final = 4_000  # characters of its output that are shown


class DemoJob:
    """One demo at a time, in a process of its own; it is ended with the dashboard, and can be taken up again."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self.was_cancelled = False
        atexit.register(self.cancel)

    def start(self, root: Path) -> None:
        """Starts ``palimpsest demo --audit-only`` into ``root``; does nothing while one is running."""
        if self.running:
            return
        root.mkdir(parents=True, exist_ok=True)
        self.was_cancelled = False
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # read as long as the page is looked at
        self._process = subprocess.Popen(
            command(root.absolute()),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=root.absolute(),
        )

    def cancel(self) -> None:
        """Ends it, if it runs; what it has made stays."""
        if self._process is not None and self.running:
            self.was_cancelled = True
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()

    @property
    def is_of_interest(self) -> bool:
        """Whether it runs, or was started here and has not ended well."""
        return self._process is not None and self.exit_code != 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None before it has started and while it runs."""
        return None if self._process is None else self._process.poll()

    def output(self) -> str:
        """The end of what it has printed."""
        if self._output is None:
            return ""
        size = self._output.seek(0, 2)
        self._output.seek(max(0, size - 4 * _TAIL))
        text = self._output.read().decode(errors="replace").replace("\r\n", "\n")
        return block("\n".join(line.rsplit("\r", 1)[-1] for line in text.split("\n"))[-_TAIL:])


def command(root: Path) -> list[str]:
    """What is run."""
    return [sys.executable, "-m", "audit", "demo", "--audit-only", "--out", str(root / "demo-audit")]


@st.cache_resource(show_spinner=False)
def demo_job(root: str) -> DemoJob:
    """One for each folder of runs, whoever looks."""
    return DemoJob()


def first_run(shop: Store) -> None:
    """The page without runs."""
    st.title("No runs yet", anchor=False)
    where = printable(shop.root.absolute())
    st.markdown(
        f"The folder of runs is {plain(where)}. "
        + ("It holds no run." if shop.root.is_dir() else "It does not exist yet; the first run makes it.")
    )
    left, right = st.columns(2)
    with left, st.container(border=True, height="stretch"):
        st.subheader("Try the demo", anchor=False)
        st.markdown(
            "It builds two small models here, one of which was trained on planted traps, and audits it. The truth is "
            "known, because it was planted. Nothing is downloaded. On two cores it takes about three minutes."
        )
        if os.environ.get(SWITCH) == "off":
            st.code("palimpsest demo --audit-only", language=None, wrap_lines=True)
        else:
            _demo(shop)
    with right, st.container(border=True, height="stretch"):
        st.subheader("Audit a model of yours", anchor=False)
        st.markdown("Write a plan, and run it. The run appears here as soon as it has begun.")
        out = shlex.quote(str(Path(where) / "my-model"))
        st.code(f"palimpsest audit plan.toml --out {out}", language=None, wrap_lines=True)
        st.markdown("The whole loop on the demo's models, with remedies, takes longer:")
        st.code(f"palimpsest demo --out {shlex.quote(str(Path(where) / 'demo'))}", language=None, wrap_lines=True)


def demo_under_way(shop: Store) -> None:
    """The demo's box beside runs, which its own first run is one of: while it runs, and where it did not end well."""
    if os.environ.get(SWITCH) != "off" and demo_job(str(shop.root)).is_of_interest:
        with st.container(border=True):
            st.subheader("The demo", anchor=False)
            _demo(shop)


@st.fragment(run_every=2.0)
def _demo(shop: Store) -> None:
    job = demo_job(str(shop.root))
    if job.running:
        st.progress(1.0, "The demo is running ...")
        if st.button("Cancel", key="cancel-demo"):
            job.cancel()
            st.rerun(scope="fragment")
    else:
        if job.was_cancelled:
            st.info("Cancelled. Started again, it goes on where it stopped.", icon=":material/info:")
        elif job.exit_code not in (None, 0):
            st.error(f"The demo ended with exit code {job.exit_code}. Its output says why.", icon=":material/warning:")
        elif job.exit_code == 0:
            st.success("The demo has ended.", icon=":material/check_circle:")
            if st.button("Show the run", type="primary", key="show-demo"):
                st.rerun()
        if job.exit_code != 0 and st.button("Run the demo", type="primary", key="run-demo"):
            job.start(shop.root)
            st.rerun(scope="fragment")
    if said := job.output():
        st.code(said, language=None, wrap_lines=True, height=240)
