"""Ed25519 signatures (RFC 8032) over a head. Keys come from a file or a text and are never stored or shown.

    signature = Ed25519(key, "palimpsest-seal-v1 " || head in hexadecimal digits || line feed)

The leading words keep the signature from being taken for one of anything else.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DataError, InputError, MissingDependencyError
from ...text.files import storage_errors

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_KINDS = "an Ed25519 key as PEM (PKCS 8 or OpenSSH, without a passphrase), as 32 raw bytes or as 64 hexadecimal digits"
_PUBLIC_KINDS = "an Ed25519 public key as PEM, as a line of OpenSSH, as 32 raw bytes or as 64 hexadecimal digits"
_LARGEST = 1 << 16


def signed_bytes(head: str) -> bytes:
    """What is signed for a head."""
    return f"palimpsest-seal-v1 {head}\n".encode("ascii")


def read_key(path: Path, *, run: Path) -> SigningKey:
    """A private key from a file that its owner alone can read.

    Args:
        path: The file.
        run: The run to be sealed; a key inside it would be sealed and handed on with it.

    Raises:
        InputError: Others can read or write the file, it lies in the run's folder or holds no such key.
        StorageError: It cannot be read.
    """
    _require_file(path, _KINDS)
    if path.resolve().is_relative_to(run.resolve()):
        raise InputError(f"the key {path} lies in the run's folder and would be handed on with it. Keep it elsewhere.")
    with storage_errors(path, kept="nothing was changed", doing="read"), path.open("rb") as stream:
        mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
        if mode & 0o077:
            raise InputError(
                f"others can read or write the key {path} (its mode is {mode:03o}). Make it yours alone: "
                f"chmod 600 {path}"
            )
        content = stream.read(_LARGEST)
    return parse_key(content, where=str(path))


def parse_key(content: bytes, *, where: str) -> SigningKey:
    """A private key from what a file or a variable of the environment holds.

    Raises:
        InputError: It is none, or is locked with a passphrase; nothing of it is quoted.
        MissingDependencyError: The extra ``sign`` is not installed.
    """
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    raw = _raw(content)
    if raw is not None:
        return SigningKey(Ed25519PrivateKey.from_private_bytes(raw))
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in content else load_pem_private_key
    try:
        key = load(content, password=None)
    except TypeError:
        raise InputError(
            f"the key in {where} is locked with a passphrase. Give one without: "
            "openssl pkey -in LOCKED.pem -out KEY.pem && chmod 600 KEY.pem"
        ) from None
    except (ValueError, UnsupportedAlgorithm):  # from None: nothing of the content is shown
        raise InputError(f"{where} holds no key that can sign; expected {_KINDS}.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{where} holds a key of another kind; expected {_KINDS}.")
    return SigningKey(key)


class SigningKey:
    """A private key that can sign and name its public key, and is printed as nothing else."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"SigningKey(public_key={self.public_key!r})"

    @property
    def public_key(self) -> str:
        """The 32 bytes of the public key as hexadecimal digits."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, head: str) -> str:
        """The 64 bytes of the signature as hexadecimal digits."""
        return self._key.sign(signed_bytes(head)).hex()


def read_public_key(path: Path) -> str:
    """A public key from a file, as hexadecimal digits.

    Raises:
        InputError: The file holds none (a private key is none).
        MissingDependencyError: The extra ``sign`` is not installed.
        StorageError: It cannot be read.
    """
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

    _require_file(path, _PUBLIC_KINDS)
    with storage_errors(path, kept="nothing was changed", doing="read"), path.open("rb") as stream:
        content = stream.read(_LARGEST)
    raw = _raw(content)
    if raw is not None:
        return raw.hex()
    try:
        key = load_ssh_public_key(content) if content.startswith(b"ssh-") else load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"{path} holds no public key; expected {_PUBLIC_KINDS}.") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path} holds a public key of another kind; expected {_PUBLIC_KINDS}.")
    return key.public_bytes_raw().hex()


def check_signature(head: str, public_key: str, signature: str) -> None:
    """Passes where the signature is that of the head by that key.

    Raises:
        DataError: It is not.
        MissingDependencyError: The extra ``sign`` is not installed.
    """
    require_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), signed_bytes(head))
    except (InvalidSignature, ValueError):
        raise DataError(f"the signature is not one of this head by the key {public_key}.") from None


def require_cryptography() -> None:
    """Passes where signatures can be made and checked.

    Raises:
        MissingDependencyError: The extra ``sign`` is not installed.
    """
    try:
        import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "signatures need the library cryptography. Install it with: pip install 'palimpsest-audit[sign]'"
        ) from error


def _require_file(path: Path, kinds: str) -> None:
    """The path is not shown: it may be the key itself, pasted where its file belongs."""
    if not os.path.exists(path):  # other than Path.exists, also where the name is too long for one
        raise InputError(
            f"there is no file of the name that was given for the key. Give the path of the file of {kinds}; a key "
            "itself does not belong on a command line."
        )


def _raw(content: bytes) -> bytes | None:
    """32 bytes given as such or as hexadecimal digits."""
    if len(content) == 32:
        return content
    digits = content.strip()
    return bytes.fromhex(digits.decode()) if re.fullmatch(rb"[0-9a-fA-F]{64}", digits) else None
