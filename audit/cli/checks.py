"""What can be refused before a model's weights are loaded: minutes or hours earlier than otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from ..lm.checkpoint import find_checkpoint, refuse_same_weights
from ..lm.load import load_tokens, pick_device
from ..lm.subject import Subject
from ..lm.tokens import check_lengths, encode

OTHER_TOKENS = (
    "the two models cut the texts into different tokens, so ratio compares means over different tokens: "
    "compare it between texts only, never with 0."
)
NO_BOS = (
    "the {role}'s tokenizer has no beginning-of-sequence token, so the first token of each text has nothing before it "
    "and is not scored."
)


def check_models(
    subject: Subject, reference: Subject | None, *, ids: Sequence[str], texts: Sequence[str], truncate: bool
) -> list[str]:
    """Checks devices, checkpoints and the length of every text for each model; loads no weights.

    Args:
        subject: The model under audit.
        reference: The model it is compared with, if any.
        ids: A name for each text, for messages.
        texts: What will be scored.
        truncate: Whether texts that are too long will be cut.

    Returns:
        What a reader of the scores should know, as sentences.

    Raises:
        InputError: No such device or checkpoint, or both models have the same weights.
        ModelError: A checkpoint cannot be used.
        DataError: A text is too long or has nothing to score.
    """
    subjects = [subject] if reference is None else [subject, reference]
    for one in subjects:
        pick_device(one.device)
        find_checkpoint(one)
    if reference is not None:
        refuse_same_weights(subject, reference)
    cuts, notes = [], []
    for one, role in zip(subjects, ("model", "reference"), strict=False):
        tokens = load_tokens(one)
        sequences, _ = check_lengths(tokens, ids, encode(tokens, texts), truncate=truncate)
        cuts.append([tokens.bos_id is None, *(hash(tuple(sequence)) for sequence in sequences)])
        if tokens.bos_id is None:
            notes.append(NO_BOS.format(role=role))
    if len(cuts) == 2 and cuts[0] != cuts[1]:
        notes.insert(0, OTHER_TOKENS)
    return notes
