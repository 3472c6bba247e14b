r"""A salted commitment to a ledger of traps, and proofs that disclose single traps of it.

Whoever publishes the commitment before the traps can show later that pool, dealing, seed and analysis plan stood
fixed then. It tells nothing by itself: every leaf and the header are hashed with a secret salt of their own, so that
not even a guessed text can be confirmed.

With SHA-256, ``||`` for joining bytes, ``JSON(v)`` for the canonical encoding below, n traps at places 0 ... n-1:

    salt_i  = HMAC-SHA256(key = secret, message = "palimpsest.traps.leaf.v1:" || i in decimal digits)
    salt_h  = HMAC-SHA256(key = secret, message = "palimpsest.traps.header.v1")
    leaf_i  = SHA-256(0x00 || salt_i || JSON(trap_i))
    node    = SHA-256(0x01 || left || right)
    root    = the tree of RFC 6962, section 2.1: n = 1 gives its leaf; else the left part holds the largest power of
              two of leaves that is smaller than n, the right part the rest
    header  = SHA-256(0x02 || salt_h || JSON(header))
    commitment = SHA-256(0x03 || n as 8 bytes, big-endian || root || header)

The leading bytes keep leaves, nodes, headers and commitments apart, as in RFC 6962. A stranger can recompute all of
it from the ledger's file: ``trap_i`` is entry i of its list "traps" and ``header`` is the whole file without the keys
"traps" and "secret"; the secret's 64 hexadecimal digits stand for its 32 bytes.

Canonical encoding: JSON in ASCII, object keys in order of their code points, no white space at all; texts escape
``"`` and ``\`` with a backslash, U+0008, U+0009, U+000A, U+000C, U+000D as ``\b \t \n \f \r``, and every other
character outside U+0020 ... U+007E as ``\uXXXX`` with small hexadecimal digits (a surrogate pair above U+FFFF); whole
numbers in decimal digits; other numbers as in the file, that is, as Python's ``repr`` writes a double: the fewest
digits that read back to the same one, always with ``.`` or an exponent. That is
``json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)`` in Python.

Source: RFC 6962, section 2.1 (tree and audit path). Departures: leaves are salted, and a header and the number of
leaves are hashed in. Design: the traps specification, section 1.3.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from typing import Any

from ...errors import InputError
from ...text import merkle

HEADER, COMMITMENT = b"\x02", b"\x03"
N_BYTES = 32  # of a secret, a salt and a hash


def canonical_json(value: Any) -> bytes:
    """The one encoding of a plain JSON value that is hashed; it is spelt out above.

    Raises:
        InputError: The value is not plain JSON, or holds a NaN or an infinity.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError) as error:
        raise InputError(f"cannot commit to this value: {error}. Give plain, finite JSON values.") from error


def leaf_salt(secret: bytes, place: int) -> bytes:
    """Salt of the trap at ``place``, 32 bytes; it tells nothing about the secret or another salt (HMAC-SHA256)."""
    return hmac.digest(secret, b"palimpsest.traps.leaf.v1:%d" % place, "sha256")


def header_salt(secret: bytes) -> bytes:
    """Salt of the header, 32 bytes."""
    return hmac.digest(secret, b"palimpsest.traps.header.v1", "sha256")


def leaf_hash(trap: dict[str, Any], salt: bytes) -> bytes:
    """SHA-256(0x00 || salt || JSON(trap)), 32 bytes."""
    return merkle.leaf_hash(salt + canonical_json(trap))


def header_hash(header: dict[str, Any], salt: bytes) -> bytes:
    """SHA-256(0x02 || salt || JSON(header)), 32 bytes."""
    return _sha256(HEADER, salt, canonical_json(header))


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Root of the tree of RFC 6962 over leaf hashes.

    Args:
        leaves: Leaf hashes of 32 bytes each, in order of their places; at least one.

    Raises:
        InputError: There are none.
    """
    if not leaves:
        raise InputError("there are no traps to commit to; expected at least one.")
    return merkle.tree_root(leaves)


def inclusion_paths(leaves: Sequence[bytes], places: Sequence[int]) -> list[list[bytes]]:
    """The audit path (RFC 6962, 2.1.1) of each leaf of ``places``: its siblings from the leaf up to the root.

    Args:
        leaves: All leaf hashes.
        places: Which leaves, from 0.

    Raises:
        InputError: A place is not among them.
    """
    for place in places:
        if not 0 <= place < len(leaves):
            raise InputError(f"there is no leaf {place}; the tree has {len(leaves)}, numbered from 0.")
    return merkle.inclusion_paths(leaves, places)


def root_from_path(leaf: bytes, place: int, n: int, path: Sequence[bytes]) -> bytes:
    """The root that a trap's leaf and its audit path lead to; arguments and errors as `audit.text.merkle`."""
    return merkle.root_from_path(leaf, place, n, path, what="traps")


def commit(root: bytes, header: bytes, n: int) -> str:
    """SHA-256(0x03 || n as 8 bytes, big-endian || root || header) as 64 hexadecimal digits."""
    return _sha256(COMMITMENT, n.to_bytes(8, "big"), root, header).hex()


def parse_commitment(text: str) -> str:
    """A commitment as a user gives it, in small letters and without spaces around it.

    Raises:
        InputError: It is not 64 hexadecimal digits; what is wrong with it is said.
    """
    plain = text.strip().lower()
    if len(plain) != 2 * N_BYTES:
        raise InputError(
            f"the commitment has {len(plain)} characters; expected the {2 * N_BYTES} hexadecimal digits that "
            "`palimpsest traps commit` printed."
        )
    wrong = re.search(r"[^0-9a-f]", plain)
    if wrong:
        raise InputError(
            f"the commitment has {wrong[0]!a} at character {wrong.start() + 1}; expected hexadecimal digits (0-9, a-f)."
        )
    return plain


def _sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()
