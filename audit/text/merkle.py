"""The hash tree of RFC 6962, section 2.1, with SHA-256: of a sealed run, and of a ledger of traps.

    leaf(d)          = SHA-256(0x00 || d)
    node(l, r)       = SHA-256(0x01 || l || r)
    root of nothing  = SHA-256 of no bytes

The tree splits n leaves at the largest power of two below n. That is the same as pairing neighbours level by level and
carrying the last one of an odd level up as it is, which is how it is computed here. The leading bytes keep leaves and
nodes apart, so that no node can be passed off as a leaf (second preimages).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ..errors import DataError

LEAF, NODE = b"\x00", b"\x01"


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data), 32 bytes."""
    return hashlib.sha256(LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right), 32 bytes."""
    return hashlib.sha256(NODE + left + right).digest()


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes in order of their places, 32 bytes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = leaves
    while len(level) > 1:
        level = _above(level)
    return level[0]


def inclusion_paths(leaves: Sequence[bytes], places: Sequence[int]) -> list[list[bytes]]:
    """The audit path (RFC 6962, 2.1.1) of each place: its siblings, from the leaf up to the root.

    Args:
        leaves: All leaf hashes.
        places: Which leaves, from 0; each exists.
    """
    paths: list[list[bytes]] = [[] for _ in places]
    now = list(places)
    level = leaves
    while len(level) > 1:
        for path, place in zip(paths, now, strict=True):
            if place ^ 1 < len(level):
                path.append(level[place ^ 1])
        now = [place // 2 for place in now]
        level = _above(level)
    return paths


def root_from_path(leaf: bytes, place: int, n: int, path: Sequence[bytes], *, what: str = "leaves") -> bytes:
    """The root that a leaf hash and its audit path lead to.

    Args:
        leaf: Hash of the leaf.
        place: Its place, from 0.
        n: Leaves of the whole tree.
        path: Siblings from the leaf up to the root.
        what: Leaves in the words of messages.

    Raises:
        DataError: The place is not in the tree, or the path is too short or too long for it.
    """
    if not 0 <= place < n:
        raise DataError(f"place {place} does not exist among {n} {what}.")
    is_right = []  # of each level where the node has a sibling, from the leaf up
    at, width = place, n
    while width > 1:
        if at ^ 1 < width:
            is_right.append(bool(at & 1))
        at, width = at // 2, (width + 1) // 2
    if len(path) != len(is_right):
        raise DataError(f"the proof of place {place} has {len(path)} hashes; {n} {what} need {len(is_right)} there.")
    found = leaf
    for sibling, right in zip(path, is_right, strict=True):
        found = node_hash(sibling, found) if right else node_hash(found, sibling)
    return found


def _above(level: Sequence[bytes]) -> list[bytes]:
    pairs = [node_hash(level[place], level[place + 1]) for place in range(0, len(level) - 1, 2)]
    return [*pairs, level[-1]] if len(level) % 2 else pairs
