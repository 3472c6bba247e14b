from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import DataError, InputError
from audit.traps.ledger.commitment import (
    canonical_json,
    commit,
    header_hash,
    header_salt,
    inclusion_paths,
    leaf_hash,
    leaf_salt,
    merkle_root,
    parse_commitment,
    root_from_path,
)

SECRET = bytes(range(32))
# Entries and roots of the first 1 to 8 of them, as in the tests of Google's Certificate Transparency (RFC 6962).
ENTRIES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def made_up(n: int) -> list[bytes]:
    return [hashlib.sha256(b"%d" % number).digest() for number in range(n)]


@pytest.mark.parametrize("n", range(1, 9))
def test_the_tree_is_that_of_rfc_6962(n: int) -> None:
    leaves = [hashlib.sha256(b"\x00" + bytes.fromhex(entry)).digest() for entry in ENTRIES[:n]]
    assert merkle_root(leaves).hex() == ROOTS[n - 1]


@given(st.integers(1, 70))
def test_every_path_leads_to_the_root_and_is_as_short_as_the_tree_is_deep(n: int) -> None:
    leaves = made_up(n)
    root = merkle_root(leaves)
    for place, path in enumerate(inclusion_paths(leaves, range(n))):
        assert root_from_path(leaves[place], place, n, path) == root
        assert len(path) <= (n - 1).bit_length()


@given(st.integers(2, 40), st.data())
def test_no_other_leaf_place_or_path_leads_there(n: int, data: st.DataObject) -> None:
    leaves = made_up(n)
    root = merkle_root(leaves)
    place = data.draw(st.integers(0, n - 1))
    other = data.draw(st.integers(0, n - 1).filter(lambda other: other != place))
    (path,) = inclusion_paths(leaves, [place])
    assert root_from_path(leaves[other], place, n, path) != root
    step = data.draw(st.integers(0, len(path) - 1))
    changed = [*path[:step], bytes(32), *path[step + 1 :]]
    assert root_from_path(leaves[place], place, n, changed) != root
    if len(inclusion_paths(leaves, [other])[0]) == len(path):
        assert root_from_path(leaves[place], other, n, path) != root
    else:
        with pytest.raises(DataError, match=rf"the proof of place {other} has {len(path)} hashes; {n} traps need"):
            root_from_path(leaves[place], other, n, path)


def test_an_impossible_proof_is_named() -> None:
    leaves = made_up(5)
    with pytest.raises(DataError, match=r"place 5 does not exist among 5 traps\."):
        root_from_path(leaves[0], 5, 5, [])
    with pytest.raises(DataError, match=r"the proof of place 4 has 3 hashes; 5 traps need 1 there\."):
        root_from_path(leaves[4], 4, 5, leaves[:3])
    with pytest.raises(InputError, match=r"there is no leaf 5; the tree has 5, numbered from 0\."):
        inclusion_paths(leaves, [5])
    with pytest.raises(InputError, match=r"there are no traps to commit to; expected at least one\."):
        merkle_root([])


def test_canonical_json_is_as_the_docstring_spells_it() -> None:
    value = {"b": [1, 0.1, 1e-7, 1e22, True, None], "a": '"\\\n\x7f/ö\U0001f600', "B": {}}
    assert canonical_json(value) == (
        rb'{"B":{},"a":"\"\\\n\u007f/\u00f6\ud83d\ude00","b":[1,0.1,1e-07,1e+22,true,null]}'
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"cannot commit to this value: .*\. Give plain, finite JSON values\."):
        canonical_json({"a": value})


def test_salts_hashes_and_the_commitment_are_as_the_docstring_spells_them() -> None:
    salt = hmac.new(SECRET, b"palimpsest.traps.leaf.v1:12", hashlib.sha256).digest()
    assert leaf_salt(SECRET, 12) == salt
    assert leaf_hash({"b": 1, "a": "x"}, salt) == hashlib.sha256(b'\x00%b{"a":"x","b":1}' % salt).digest()
    salt = hmac.new(SECRET, b"palimpsest.traps.header.v1", hashlib.sha256).digest()
    assert header_salt(SECRET) == salt
    assert header_hash({"seed": 3}, salt) == hashlib.sha256(b'\x02%b{"seed":3}' % salt).digest()
    root, header = made_up(2)
    assert commit(root, header, 258) == hashlib.sha256(b"\x03" + b"\0" * 6 + b"\x01\x02" + root + header).hexdigest()


def test_equal_traps_have_different_leaves_at_different_places_and_under_different_secrets() -> None:
    trap = {"text": "the same"}
    salts = [leaf_salt(secret, place) for secret in (SECRET, bytes(32)) for place in range(50)]
    assert len({leaf_hash(trap, salt) for salt in salts}) == 100
    assert header_salt(SECRET) not in salts


def test_a_commitment_is_read_as_people_paste_it() -> None:
    assert parse_commitment(" " + "AB" * 32 + "\n") == "ab" * 32


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the commitment has 0 characters; expected the 64 hexadecimal digits that `palimpsest traps commit`"),
        ("ab" * 31, "the commitment has 62 characters; expected the 64"),
        ("ab" * 31 + "xy", "the commitment has 'x' at character 63; expected hexadecimal digits (0-9, a-f)."),
    ],
)
def test_a_malformed_commitment_is_named(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_commitment(text)
    assert says in str(caught.value)
