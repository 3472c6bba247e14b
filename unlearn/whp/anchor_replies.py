"""Who answers the prompts about anchor terms, a model here or a server, and where the answers are kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path

from audit.errors import IncompleteRunError, InputError
from audit.extraction.completions import Server, complete
from audit.extraction.prefixes import chat_of, encode_prefix, stops
from audit.lm.generate import Sampling, generate
from audit.lm.load import LanguageModel
from audit.lm.tokens import encode, prefix_ids
from audit.text.files import make_folder, storage_errors, write_text
from audit.text.safe import quoted

MAX_NEW_TOKENS = 2_048  # ours; some 60 entries of a mapping
_NAME = re.compile(r"[0-9a-f]{64}")


class Replies(MutableMapping[str, str]):
    """Answers by the SHA-256 of their prompts, one file each, whole or absent: a killed job asks for none again.

    Args:
        folder: Made when the first answer comes. It belongs to one model and one way of asking.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> str:
        path = self._path(name)
        with storage_errors(path, kept="nothing was changed", doing="read"):
            try:
                return path.read_bytes().decode()
            except (FileNotFoundError, UnicodeDecodeError):  # the latter: not written here
                raise KeyError(name) from None

    def __setitem__(self, name: str, answer: str) -> None:
        make_folder(self._folder)
        write_text(self._path(name), answer)

    def __delitem__(self, name: str) -> None:
        self._path(name).unlink()

    def __iter__(self) -> Iterator[str]:
        found = self._folder.glob("*.txt") if self._folder.is_dir() else ()
        return (path.stem for path in sorted(found) if _NAME.fullmatch(path.stem))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.txt"


def asks_model(lm: LanguageModel, *, max_new_tokens: int = MAX_NEW_TOKENS) -> Callable[[str], str]:
    """Greedy answers of a model in this process.

    The prompt is what the user says in the tokenizer's chat template; without a template the model goes on after it.
    Control tokens that are spelt out in the prompt are ordinary text.

    Raises:
        InputError: The template cannot be used, or (by the function) a prompt leaves no room in the context.
    """
    before, after = prefix_ids(lm), []
    ends = {lm.tokenizer.eos_token_id}
    if getattr(lm.tokenizer, "chat_template", None) is not None:
        chat = chat_of(lm)
        before = list(encode_prefix(lm, chat.opening, name="template").ids)
        after = encode(lm, [chat.assistant], parse_special=True)[0]
        found = stops(lm, chat)
        ends = {*found.ids, *found.passed_over}  # what also closes a question closes the answer
    sampling = Sampling(max_new_tokens, temperature=0.0, stop_ids=tuple(sorted(ends - {None})))

    def answer(prompt: str) -> str:
        ids = [*before, *encode(lm, [prompt])[0], *after]
        if len(ids) + max_new_tokens > lm.n_context:
            raise InputError(
                f"a passage with its prompt has {len(ids):,} tokens and an answer of up to {max_new_tokens:,} was "
                f"asked for; {quoted(lm.subject.model, limit=200)} holds {lm.n_context:,} in all. Give a smaller "
                "--passage or --max-new-tokens, or another model."
            )
        (said,) = generate(lm, [ids], sampling=sampling, seed=0)
        return str(lm.tokenizer.decode(list(said.token_ids), skip_special_tokens=True))

    return answer


def asks_server(server: Server, *, max_new_tokens: int = MAX_NEW_TOKENS) -> Callable[[str], str]:
    """Answers of a model behind an OpenAI-compatible ``/v1/chat/completions``, at temperature 0.

    Raises:
        InputError: The variable of the key is empty (by the function, as what follows).
        IncompleteRunError: A request failed for good.
    """
    sampling = Sampling(max_new_tokens, temperature=0.0)

    def answer(prompt: str) -> str:
        (said,) = complete(server, [prompt], sampling=sampling, seed=0, chat=True)
        if said.failure is not None:
            raise IncompleteRunError(
                f"{server.url} gave no answer: {said.failure}. The answers before it are kept; mend it, and the same "
                "command goes on from there."
            )
        return said.text

    return answer
