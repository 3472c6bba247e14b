"""What a guard costs a request, and how many requests a second its server answers; a Markdown page.

    python -m tests.benchmarks.eco_serving small
    python -m tests.benchmarks.eco_serving 1b --new 64        # on a GPU
    python -m tests.benchmarks.eco_serving path/to/model

``small`` is the shape of the testbed's small model and ``1b`` that of Llama-3.2-1B, both with random weights. Prompts
are invented questions, all different; answers are greedy and of a fixed number of tokens, unless the model ends one.

1. Added latency: the guard's own part of one request (verdict, selection, noise, the hook) is measured as the time of
   preparing and reading a prompt through the guard, less the same through the bare model, in turn on the same prompt.
   It is given in ms and in percent of the median time of the bare model's whole answer, whose length therefore matters.
   Flagged requests are the same prompts under a threshold that flags all; cached ones were judged before.
2. Requests a second: clients that each wait for their answer before they ask again, in a process of their own, against
   the server over HTTP on this machine; beside it transformers' ``generate``, called one prompt at a time without HTTP,
   in the same round, and ``transformers serve`` where its extra is installed. Every round is shown.

The classifier is logistic regression over all-MiniLM-L6-v2 where that is installed, else over a random encoder of its
shape, which costs the same and knows nothing.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CLIENTS = (1, 8, 32)
WORDS = (
    "which",
    "what",
    "who",
    "where",
    "when",
    "old",
    "small",
    "river",
    "house",
    "garden",
    "letter",
    "winter",
    "book",
    "road",
    "stone",
    "market",
    "train",
    "window",
)


def questions(n: int, *, seed: int) -> list[str]:
    """Different questions of about twenty words."""
    rng = random.Random(seed)
    return [f"{number} {' '.join(rng.choices(WORDS, k=rng.randint(12, 28)))}?" for number in range(n)]


# --- the clients, in a process without torch -------------------------------------------------------------------------


def clients(url: str, model: str, n_clients: int, prompts: Sequence[str], n_new: int) -> dict[str, float]:
    """Requests a second, tokens a second and failures of one round."""
    where = urlsplit(url)
    shared = iter(prompts)
    lock = threading.Lock()

    def one_client(_place: int) -> tuple[int, int]:
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=600)
        n_tokens = n_failed = 0
        while True:
            with lock:
                prompt = next(shared, None)
            if prompt is None:
                return n_tokens, n_failed
            body = {"model": model, "prompt": prompt, "max_tokens": n_new, "temperature": 0}
            headers = {"content-type": "application/json"}
            connection.request("POST", "/v1/completions", json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == 200:
                n_tokens += json.loads(content)["usage"]["completion_tokens"]
            else:
                n_failed += 1

    start = time.perf_counter()
    with ThreadPoolExecutor(n_clients) as pool:
        found = list(pool.map(one_client, range(n_clients)))
    seconds = time.perf_counter() - start
    n_failed = sum(failed for _, failed in found)
    return {
        "requests": (len(prompts) - n_failed) / seconds,
        "tokens": sum(tokens for tokens, _ in found) / seconds,
        "failed": n_failed,
    }


def rounds(url: str, model: str, n_clients: int, args: argparse.Namespace, base: Callable[[int], float]) -> list[Any]:
    """Rounds by clients in another process, each with its ``base`` beside it; no prompt comes twice."""
    found = []
    for number in range(args.rounds):
        n_prompts = max(args.requests, 2 * n_clients)
        command = [sys.executable, "-m", "tests.benchmarks.eco_serving", "--as-clients", url, model]
        command += [str(n_clients), str(n_prompts), str(args.new), str(1_000 * n_clients + number)]
        one = base(number)
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append({**json.loads(result.stdout), "base": one})
    return found


# --- models ----------------------------------------------------------------------------------------------------------


def language_model(name: str) -> Any:
    """A folder's model, or one with random weights of a named shape."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from audit.lm.checkpoint import Fingerprint
    from audit.lm.load import LanguageModel, load
    from audit.lm.subject import Subject
    from audit.testbed.sizes import SIZES
    from tests.checkpoints import make_tokenizer

    if name not in ("small", "1b"):
        return load(name)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "small":
        size = SIZES["small"].model
        shape = {
            "vocab_size": size.n_vocabulary,
            "hidden_size": size.width,
            "num_hidden_layers": size.n_layers,
            "num_attention_heads": size.n_heads,
            "intermediate_size": size.n_inner,
        }
    else:
        shape = {
            "vocab_size": 128_256,
            "hidden_size": 2048,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
        }
    config = LlamaConfig(
        **shape, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, pad_token_id=2
    )
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with torch.device(device):
        model = LlamaForCausalLM(config).to(dtype).eval().requires_grad_(False)
    return LanguageModel(
        model=model,
        tokenizer=make_tokenizer(bos=True),
        subject=Subject(model=f"random {name}"),
        fingerprint=Fingerprint("", "", "", {}),
        device=device,
        n_context=2048,
        bos_id=0,
    )


class RandomEncoder:
    """Of MiniLM's shape (6 layers of 384), mean-pooled: costs what it costs, and knows nothing."""

    def __init__(self, device: Any) -> None:
        import torch
        from transformers import BertConfig, BertModel

        from tests.checkpoints import make_tokenizer

        config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
        self._torch, self._device = torch, device
        self._model = BertModel(config).to(device).eval()
        self._tokenizer = make_tokenizer(bos=True)

    def scores(self, texts: Sequence[str]) -> Any:
        import numpy as np

        from unlearn.eco.classifier import PromptScores

        encoded = self._tokenizer(list(texts), padding=True, truncation=True, max_length=512, return_tensors="pt")
        encoded = {name: encoded[name].to(self._device) for name in ("input_ids", "attention_mask")}
        with self._torch.inference_mode():
            hidden = self._model(**encoded).last_hidden_state
        mask = encoded["attention_mask"][..., None]
        vectors = (hidden * mask).sum(1) / mask.sum(1)
        p = vectors.mean(1).sigmoid().double().cpu().numpy()
        return PromptScores(p, np.ones(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=np.bool_))


def scorer(device: Any) -> tuple[Any, str]:
    """A classifier fitted on invented prompts, and what it is called."""
    from audit.errors import MissingDependencyError
    from audit.matching.encode import load_encoder
    from unlearn.eco.classifier import fit
    from unlearn.eco.judge import EmbeddingScorer

    try:
        encoder = load_encoder(device=str(device))
    except MissingDependencyError:
        return RandomEncoder(device), "a random encoder of MiniLM's shape"
    texts = questions(64, seed=1)
    return EmbeddingScorer(fit(encoder, texts, [place % 4 == 0 for place in range(64)]), encoder), "all-MiniLM-L6-v2"


def guard(lm: Any, score: Any, *, flag_all: bool, remember: bool) -> Any:
    from audit.answers.formats import PromptFormat
    from unlearn.eco.corruptions import Corruption
    from unlearn.eco.guard import EcoGuard, GuardSettings
    from unlearn.eco.judge import Judge

    settings = GuardSettings("nothing", Corruption(strength=1.0, dims=1), format=PromptFormat("text"))
    judge = Judge(score, -1.0 if flag_all else float("inf"), key=b"0123456789abcdef", remember=4096 * remember)
    return EcoGuard(lm, judge, settings)


# --- 1. added latency ------------------------------------------------------------------------------------------------


def timed(lm: Any, work: Callable[[], Any]) -> float:
    """Seconds, the device's own work included."""
    import torch

    if lm.device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if lm.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def quantile(values: Sequence[float], q: float) -> tuple[float, float, float]:
    """A quantile with its 95% interval from order statistics, which asks nothing of the distribution."""
    from scipy.stats import binom

    ordered = sorted(values)
    n = len(ordered)
    low, high = (int(binom.ppf(p, n, q)) for p in (0.025, 0.975))
    return ordered[min(n - 1, int(q * n))], ordered[max(0, low - 1)], ordered[min(n - 1, high)]


def latency(lm: Any, score: Any, args: argparse.Namespace) -> None:
    import torch

    from audit.answers.formats import PromptFormat
    from audit.answers.systems import Bare

    bare = Bare(lm, PromptFormat("text"))
    prompts = questions(args.prompts + 3, seed=2)

    def whole(prompt: str) -> None:
        settings = {"max_new_tokens": args.new, "min_new_tokens": args.new, "do_sample": False, "pad_token_id": 2}
        bare.generate(bare.prepare([prompt]), **settings)

    def read(system: Any, prompt: str) -> None:
        system.forward(system.prepare([prompt]), use_cache=True, logits_to_keep=1)

    with torch.inference_mode():
        model_time = [timed(lm, lambda p=prompt: whole(p)) for prompt in prompts][3:]
        middle, low, high = (1e3 * one for one in quantile(model_time, 0.5))
        print(
            f"\nThe bare model's answer of {args.new} tokens: median {middle:.1f} ms [{low:.1f}, {high:.1f}], "
            f"n = {len(model_time)}. Added by the guard, 95% intervals from order statistics, n = {args.prompts}:\n"
        )
        print("| Request | Verdict | p50, ms | p95, ms | p50, % of the model's time | p95, % |")
        print("|---|---|---|---|---|---|")
        for flag_all in (False, True):
            for remember in (False, True):
                system = guard(lm, score, flag_all=flag_all, remember=remember)
                if remember:
                    for prompt in prompts:
                        system.prepare([prompt])
                added = []
                for prompt in prompts:
                    with_guard = timed(lm, lambda s=system, p=prompt: read(s, p))
                    added.append(with_guard - timed(lm, lambda p=prompt: read(bare, p)))
                cells = [quantile([1e3 * one for one in added[3:]], q) for q in (0.5, 0.95)]
                shown = [f"{value:.2f} [{least:.2f}, {most:.2f}]" for value, least, most in cells]
                shares = [
                    f"{100 * value / middle:.1f} [{100 * least / middle:.1f}, {100 * most / middle:.1f}]"
                    for value, least, most in cells
                ]
                names = ["flagged" if flag_all else "clean", "cached" if remember else "fresh"]
                print(f"| {' | '.join([*names, *shown, *shares])} |", flush=True)


# --- 2. requests a second --------------------------------------------------------------------------------------------


@contextmanager
def our_server(system: Any) -> Iterator[str]:
    import uvicorn

    from unlearn.eco.serve.api import Door, make_app
    from unlearn.eco.serve.engine import Engine

    engine = Engine(system)
    app = make_app(engine, Door(model="served", fingerprint="fp"), drain_seconds=5)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@contextmanager
def transformers_server(lm: Any, name: str) -> Iterator[tuple[str, str]]:
    """Its address and the model's name there."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = name
        if name in ("small", "1b"):
            folder = scratch + "/model"
            lm.model.save_pretrained(folder)
            lm.tokenizer.save_pretrained(folder)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        code = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
        command = [sys.executable, "-c", code, "serve", folder, "--port", str(port), "--device", lm.device.type]
        command += ["--continuous-batching"] if lm.device.type == "cuda" else []
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        with Path(scratch, "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            deadline = time.monotonic() + 120
            while not _is_up(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(Path(scratch, "log").read_text()[-500:])
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}", folder
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _is_up(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False


def direct(lm: Any, args: argparse.Namespace) -> Callable[[int], float]:
    """Requests a second of transformers' own generate, one prompt after the other, without HTTP."""
    import torch

    from audit.answers.formats import PromptFormat
    from audit.answers.systems import Bare

    bare = Bare(lm, PromptFormat("text"))

    def measure(number: int) -> float:
        prompts = questions(args.requests, seed=number)

        def work() -> None:
            for prompt in prompts:
                bare.generate(bare.prepare([prompt]), max_new_tokens=args.new, do_sample=False, pad_token_id=2)

        with torch.inference_mode():
            return len(prompts) / timed(lm, work)

    measure(-1)
    return measure


def throughput(lm: Any, score: Any, args: argparse.Namespace) -> None:
    from audit.answers.formats import PromptFormat
    from audit.answers.systems import Bare

    missing = _missing("fastapi", "uvicorn", "prometheus_client")
    if missing:
        print(f"\nRequests a second were left out: {missing} is not installed (palimpsest-audit[serve]).")
        return
    print(
        f"\n{args.new} new tokens a request; {args.rounds} rounds of {args.requests} requests, or two for each client "
        "if that is more. Medians, and each round in brackets.\n"
    )
    print("| Served | clients | requests/s | `generate` one at a time, beside it | ratio | tokens/s | failed |")
    print("|---|---|---|---|---|---|---|")
    base = direct(lm, args)
    systems = {
        "guard, no prompt flagged": guard(lm, score, flag_all=False, remember=True),
        "guard, every prompt flagged": guard(lm, score, flag_all=True, remember=True),
        "bare model behind the same server": Bare(lm, PromptFormat("text")),
    }
    for name, system in systems.items():
        with our_server(system) as url:
            clients(url, "served", 1, questions(2, seed=99), args.new)
            for n_clients in CLIENTS:
                _row(name, n_clients, rounds(url, "served", n_clients, args, base))
    missing = _missing("openai", "multipart")
    if missing:
        print(f"\n`transformers serve` was left out: {missing} is not installed (transformers[serving]).")
        return
    try:
        with transformers_server(lm, args.model) as (url, folder):
            clients(url, folder, 1, questions(2, seed=99), args.new)
            for n_clients in CLIENTS:
                _row("transformers serve", n_clients, rounds(url, folder, n_clients, args, base))
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        print(f"\n`transformers serve` did not run: {error}")


def _missing(*names: str) -> str:
    return ", ".join(name for name in names if importlib.util.find_spec(name) is None)


def _row(name: str, n_clients: int, found: Sequence[dict[str, float]]) -> None:
    columns = ([one["requests"] for one in found], [one["base"] for one in found])
    shown = [_shown(values) for values in (*columns, [own / beside for own, beside in zip(*columns, strict=True)])]
    tokens = statistics.median(one["tokens"] for one in found)
    failed = sum(one["failed"] for one in found)
    print(f"| {name} | {n_clients} | {' | '.join(shown)} | {tokens:.0f} | {failed:.0f} |", flush=True)


def _shown(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})"


def main() -> None:
    if sys.argv[1:2] == ["--as-clients"]:
        url, model, n_clients, n_prompts, n_new, seed = sys.argv[2:]
        found = clients(url, model, int(n_clients), questions(int(n_prompts), seed=int(seed)), int(n_new))
        print(json.dumps(found))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="small, 1b, or the folder of a model")
    parser.add_argument("--new", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--prompts", type=int, default=100, help="prompts of the latency table")
    parser.add_argument("--requests", type=int, default=32, help="requests of a round")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    import torch

    lm = language_model(args.model)
    score, named = scorer(lm.device)
    device = torch.cuda.get_device_name() if lm.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"# The guard and its server: {lm.subject.model}\n")
    dtype = str(lm.model.dtype).removeprefix("torch.")
    print(f"{lm.n_parameters:,} parameters in {dtype}; {device}; classifier: {named}.")
    latency(lm, score, args)
    throughput(lm, score, args)


if __name__ == "__main__":
    main()
