"""Keys are read in every usual form, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from audit.errors import DataError, InputError
from audit.runs.seal.signing import check_signature, parse_key, read_key, read_public_key, signed_bytes

RAW = bytes(range(32))
KEY = Ed25519PrivateKey.from_private_bytes(RAW)
PUBLIC = KEY.public_key().public_bytes_raw().hex()
HEAD = "ab" * 32


def _private(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


FORMS = {
    "raw": RAW,
    "hexadecimal": RAW.hex().encode() + b"\n",
    "PEM": KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    "OpenSSH": KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
}
PUBLIC_FORMS = {
    "raw": bytes.fromhex(PUBLIC),
    "hexadecimal": PUBLIC.upper().encode(),
    "PEM": KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "OpenSSH": KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_read_in_each_form_and_signs(tmp_path: Path, form: str) -> None:
    key = read_key(_private(tmp_path / "key", FORMS[form]), run=tmp_path / "run")
    assert key.public_key == PUBLIC
    signature = key.sign(HEAD)
    check_signature(HEAD, PUBLIC, signature)
    KEY.public_key().verify(bytes.fromhex(signature), b"palimpsest-seal-v1 " + HEAD.encode() + b"\n")
    with pytest.raises(DataError, match="is not one of this head"):
        check_signature("cd" * 32, PUBLIC, signature)


@pytest.mark.parametrize("form", PUBLIC_FORMS)
def test_a_public_key_is_read_in_each_form(tmp_path: Path, form: str) -> None:
    assert read_public_key(_private(tmp_path / "key.pub", PUBLIC_FORMS[form], 0o644)) == PUBLIC


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_key_that_others_can_read_is_refused_as_ssh_does(tmp_path: Path, mode: int) -> None:
    path = _private(tmp_path / "key", RAW, mode)
    with pytest.raises(InputError, match=f"its mode is {mode:03o}.*chmod 600"):
        read_key(path, run=tmp_path / "run")


def test_a_key_inside_the_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    path = _private(tmp_path / "run" / "key", RAW)
    (tmp_path / "link").symlink_to(path)
    for one in (path, tmp_path / "link"):
        with pytest.raises(InputError, match="would be handed on with it"):
            read_key(one, run=tmp_path / "run")


BAD = {
    "locked": KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
    "of another kind": generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    ),
    "no key that can sign": PUBLIC_FORMS["PEM"],
    "no key that can sign ": b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
    "no key that can sign  ": b"",
    "no key that can sign   ": b"hunter2",
}


@pytest.mark.parametrize("why", BAD)
def test_what_is_no_key_is_refused_and_not_quoted(why: str) -> None:
    with pytest.raises(InputError, match=why.strip()) as error:
        parse_key(BAD[why], where="PALIMPSEST_SIGNING_KEY")
    assert "hunter2" not in str(error.value)
    assert error.value.__context__ is None or error.value.__suppress_context__


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    for read in (lambda path: read_key(path, run=tmp_path / "run"), read_public_key):
        for name in ("none", RAW.hex(), FORMS["PEM"].decode(), FORMS["PEM"].decode() * 9):  # pasted keys
            with pytest.raises(InputError, match="there is no file of the name that was given") as error:
                read(tmp_path / name)
            assert name not in str(error.value)
            assert error.value.__context__ is None


def test_a_key_pasted_where_the_run_lies_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        read_key(Path(RAW.hex()), run=Path())
    assert RAW.hex() not in str(error.value)


def test_a_private_key_is_no_public_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no public key"):
        read_public_key(_private(tmp_path / "key", FORMS["PEM"]))


def test_a_key_is_printed_by_its_public_half() -> None:
    key = parse_key(RAW, where="x")
    assert RAW.hex() not in repr(key) + str(vars(key))
    assert PUBLIC in repr(key)
    assert signed_bytes(HEAD) == f"palimpsest-seal-v1 {HEAD}\n".encode()
