"""How fast texts are encoded, against the library's default call on the same texts in the same run.

    OMP_NUM_THREADS=1 taskset -c 0 python -m tests.benchmarks.embedding_speed [--texts 300] [--folder ENCODER]

The texts are made words, from a few to 1,500 of them; in the second row every one occurs twice. Seconds are the
processor's, of one thread, tokenising included; the two ways take turns and the best of each counts. The greatest
difference between any two numbers of their vectors is printed, and whether the same texts are told to be truncated is
checked against a count of all tokens.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from audit.matching.encode import Encoder, load_encoder

from .matching_speed import best_of, made_texts


def compare(encoder: Encoder, texts: list[str], what: str, repeats: int) -> None:
    tokenizer = encoder._model.tokenizer
    limit = encoder.n_context
    longer = [len(tokenizer(encoder.prompt + text, verbose=False)["input_ids"]) > limit for text in texts]
    found = best_of(
        {
            "palimpsest": lambda: encoder.encode(texts).vectors,
            "library": lambda: encoder._model.encode(texts, prompt=encoder.prompt, normalize_embeddings=True),
        },
        repeats,
    )
    if encoder.encode(texts).truncated.tolist() != longer:
        raise SystemExit("the texts told to be truncated are not those with more tokens than the encoder reads")
    (ours, vectors), (theirs, others) = found["palimpsest"], found["library"]
    apart = float(np.abs(vectors - others[:, : encoder.dimensions]).max())
    print(
        f"| {what} | {len(texts) / ours:.1f} | {len(texts) / theirs:.1f} | {theirs / ours:.2f} | {apart:.1e} "
        f"| {sum(longer)} of {len(texts)} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--batch-tokens", type=int, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    encoder = load_encoder(arguments.folder, device="cpu", batch_tokens=arguments.batch_tokens)
    print(f"{encoder.name}, {encoder.dimensions} dimensions, loaded in {time.perf_counter() - start:.1f} s\n")
    texts = made_texts(arguments.texts, np.random.default_rng(0))
    print(
        "| Texts | palimpsest, texts/s | library's default | times as fast | apart | truncated |\n"
        "|---|---|---|---|---|---|"
    )
    compare(encoder, texts, "all different", arguments.repeats)
    half = texts[: len(texts) // 2]
    compare(encoder, half + half, "every one twice", arguments.repeats)


if __name__ == "__main__":
    main()
