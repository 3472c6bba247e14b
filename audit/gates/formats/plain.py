"""Text from runs and policies made inert on one line, before any format's own escaping."""

from __future__ import annotations

from ...text.safe import for_terminal

_MOST = 2_000


def plain(text: str, *, limit: int = _MOST) -> str:
    """``text`` on one line, without escape sequences, control characters and direction marks, cut to ``limit``.

    "::" and "##" are spread ("::error::" is a command to a GitHub runner at the start of any line that is printed,
    "##[error]" and "##vso[...]" anywhere in one). The characters that XML does not know are left out.
    """
    shown = " ".join(for_terminal(text).split())
    while "::" in shown or "##" in shown:
        shown = shown.replace("::", ": :").replace("##", "# #")
    shown = "".join(
        character for character in shown if ord(character) & 0xFFFE != 0xFFFE
    )  # no characters, in any plane
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
