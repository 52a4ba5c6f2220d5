"""What travels through the browser or lies in the store opens only for its purpose, in its place, with this ring."""

import base64
import hashlib
import os
import stat
from pathlib import Path

import pytest
from hall_samples import HOST, NOW, a_ring, base64url, flipped
from hypothesis import given
from hypothesis import strategies as st

from forward_auth.sealing import (
    TICKET_LENGTH,
    KeyRing,
    NotOurs,
    RingError,
    RingKey,
    from_text,
    has_ticket_form,
    new_key,
    open_record,
    read_ring,
    ring_text,
    rotated,
    seal_record,
    to_text,
    write_ring,
)

RING = a_ring(1)

# -- tickets -----------------------------------------------------------------------------------------------------------


def test_a_ticket_is_read_by_its_ring_for_its_purpose_and_host() -> None:
    """64 characters of one alphabet; the store knows only the digest of its secret; no two are alike."""
    text, found = RING.new_ticket("ticket", HOST)
    assert found == RING.read_ticket(text.encode(), "ticket", HOST)
    assert TICKET_LENGTH == len(text)
    assert hashlib.sha256(found.secret).digest() == found.digest
    assert 50 == len({RING.new_ticket("ticket", HOST)[0] for _ in range(50)})


@pytest.mark.parametrize(
    ("purpose", "host"),
    [
        ("handoff", HOST),
        ("ticket", "radio.hopital.example"),
        ("ticket", ""),
        ("", f"ticket{HOST}"),
        ("ticket1", HOST[1:]),
        (f"ticket {HOST}", ""),
    ],
)
def test_COOK_02_a_ticket_for_something_else_is_no_ticket(purpose: str, host: str) -> None:
    """Purpose and host are framed: no two pairs run together into the same bytes."""
    text, _ = RING.new_ticket("ticket", HOST)
    assert RING.read_ticket(text.encode(), purpose, host) is None


def test_COOK_02_INT_01_every_bit_of_a_ticket_counts() -> None:
    """Of the text and of what it encodes: key id, secret, tag."""
    text = RING.new_ticket("ticket", HOST)[0].encode()
    for bit in range(len(text) * 8):
        assert RING.read_ticket(flipped(text, bit), "ticket", HOST) is None
    raw = base64.urlsafe_b64decode(text)
    for bit in range(len(raw) * 8):
        assert RING.read_ticket(base64url(flipped(raw, bit)), "ticket", HOST) is None


def test_COOK_02_COOK_03_no_other_spelling_of_a_ticket_is_a_ticket() -> None:
    """Truncated, longer, padded, quoted, in the other alphabet, escaped, halves swapped."""
    text = next(
        text for text in (RING.new_ticket("ticket", HOST)[0] for _ in range(500)) if "-" in text and "_" in text
    ).encode()
    others = [text[:cut] for cut in range(len(text))]
    others += [text + b"A", text + b"=", text + b"\n", b" " + text[1:], b'"' + text + b'"', text[32:] + text[:32]]
    others += [text.replace(b"-", b"+"), text.replace(b"_", b"/"), text.replace(b"-", b"%2d"), text.lower(), text * 2]
    for other in others:
        assert RING.read_ticket(other, "ticket", HOST) is None, other


@given(st.binary(min_size=48, max_size=48))
def test_COOK_10_a_made_up_ticket_is_refused(raw: bytes) -> None:
    """Any key id, any bytes."""
    assert RING.read_ticket(base64url(raw), "ticket", HOST) is None


def test_COOK_02_a_ticket_of_another_ring_is_refused() -> None:
    """Also when the key has the same id."""
    other = KeyRing([RingKey(1, NOW, None, bytes(range(100, 132)))])
    text = other.new_ticket("ticket", HOST)[0].encode()
    assert RING.read_ticket(text, "ticket", HOST) is None


def test_the_form_of_a_ticket_says_nothing_of_who_made_it() -> None:
    """64 characters of one alphabet: a stranger's may have it, and nothing shorter, longer or with a mark in it does."""
    assert all(has_ticket_form(RING.new_ticket("ticket", HOST)[0].encode()) for _ in range(50))
    assert has_ticket_form(b"AZaz09-_" * 8)
    for other in (b"", b"A" * 63, b"A" * 65, b"A" * 63 + b"\r", b"A" * 63 + b"=", b"A" * 63 + b"+", b"\xe9" * 64):
        assert not has_ticket_form(other)


# -- login keys --------------------------------------------------------------------------------------------------------


def test_a_login_key_opens_with_its_ticket_and_ring_only() -> None:
    """Another ticket, purpose, login or ring, a flipped bit or a cut: NotOurs (COOK-06)."""
    _, found = RING.new_ticket("ticket", HOST)
    _, other = RING.new_ticket("ticket", HOST)
    wrapped = RING.wrap(b"k" * 32, found, "ticket", b"login-1")
    assert b"k" * 32 == RING.unwrap(wrapped, found, "ticket", b"login-1")
    stranger = KeyRing([RingKey(1, NOW, None, bytes(range(100, 132)))])
    for ring, secret, purpose, place in (
        (RING, other, "ticket", b"login-1"),
        (RING, found, "handoff", b"login-1"),
        (RING, found, "ticket", b"login-2"),
        (stranger, found, "ticket", b"login-1"),
    ):
        with pytest.raises(NotOurs, match=purpose):
            ring.unwrap(wrapped, secret, purpose, place)
    for bad in [flipped(wrapped, bit) for bit in range(len(wrapped) * 8)] + [wrapped[:cut] for cut in range(48)]:
        with pytest.raises(NotOurs):
            RING.unwrap(bad, found, "ticket", b"login-1")


def test_a_record_opens_as_its_own_login_and_version_only() -> None:
    """Rows cannot be swapped or rolled back by whoever can write the store (COOK-06)."""
    key, sealed = b"k" * 32, seal_record(b"k" * 32, b"plain", b"login-1", 3)
    assert b"plain" == open_record(key, sealed, b"login-1", 3)
    assert sealed != seal_record(key, b"plain", b"login-1", 3)
    for other, login, version in ((b"l" * 32, b"login-1", 3), (key, b"login-2", 3), (key, b"login-1", 2)):
        with pytest.raises(NotOurs):
            open_record(other, sealed, login, version)
    for bad in [flipped(sealed, bit) for bit in range(len(sealed) * 8)] + [sealed[:cut] for cut in range(len(sealed))]:
        with pytest.raises(NotOurs):
            open_record(key, bad, b"login-1", 3)


# -- seals -------------------------------------------------------------------------------------------------------------


def test_INT_01_a_seal_opens_for_its_purpose_and_place_only() -> None:
    """Every bit flip, every cut, another purpose, another place, another ring: NotOurs, and the error names no content."""
    sealed = RING.seal("state", b"plain", b"cookie-1")
    assert b"" == RING.open("state", RING.seal("state", b""))
    assert "not_ours: why" == str(NotOurs("why"))
    assert b"plain" == RING.open("state", sealed, b"cookie-1")
    assert sealed != RING.seal("state", b"plain", b"cookie-1")
    for purpose, place in (("state", b"cookie-2"), ("state", b""), ("listing", b"cookie-1"), ("", b"cookie-1")):
        with pytest.raises(NotOurs):
            RING.open(purpose, sealed, place)
    for bad in [flipped(sealed, bit) for bit in range(len(sealed) * 8)] + [sealed[:cut] for cut in range(len(sealed))]:
        with pytest.raises(NotOurs) as caught:
            RING.open("state", bad, b"cookie-1")
        assert "plain" not in str(caught.value)
    with pytest.raises(NotOurs):
        KeyRing([RingKey(1, NOW, None, bytes(range(100, 132)))]).open("state", sealed, b"cookie-1")


def test_a_look_up_tag_is_of_its_ring_and_purpose() -> None:
    """The store finds what it cannot read; rows from before a rotation are found by the older keys."""
    both = a_ring(2, 1)
    assert (both.tag("sid", "x"), RING.tag("sid", "x")) == both.tags("sid", "x")
    assert 32 == len(RING.tag("sid", "x"))
    tags = [RING.tag("sid", "x"), RING.tag("sub", "x"), RING.tag("sid", "y"), a_ring(2).tag("sid", "x")]
    assert 4 == len(set(tags))


def test_what_an_earlier_version_sealed_still_opens() -> None:
    """An upgrade signs nobody out and loses no record: a ticket, a login key, a seal, a look-up tag and a record as they were made before."""
    found = RING.read_ticket(b"AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fR1P0SpO8qxgj9VCaWxZk", "ticket", HOST)
    assert found is not None
    assert (hashlib.sha256(bytes(range(32))).digest(), bytes(range(32)), 1) == found
    wrapped = from_text("x5oiciX9jgRT7k-xCgeXscksfyxS95Ubu5DjrjWkfBqTNor5g9V4R7DXIDX1r6IK")
    assert b"k" * 32 == RING.unwrap(wrapped, found, "ticket", b"login-1")
    assert b"plain" == RING.open("state", from_text("AWRlZmdoaWprbG1ub36jHfgrs3QyjXvT9ehGEdsqlfnQlg"), b"cookie-1")
    assert "SAs_nj-47wPeruAfH8OesCdN4MTEEeO3DrmYUj-H6Pw" == to_text(RING.tag("sid", "x"))
    record = from_text("ZGVmZ2hpamtsbW5vsOWDQZnSFDh8TUcwrNG2h45DHH9y")
    assert b"plain" == open_record(b"k" * 32, record, b"login-1", 3)


# -- rotation ----------------------------------------------------------------------------------------------------------


def test_COOK_09_after_a_rotation_the_old_key_still_opens_and_the_new_one_seals() -> None:
    """Inside the grace everything of before is good; once the key is dropped, nothing of it is."""
    before = a_ring(1)
    between, after = a_ring(2, 1), a_ring(2)
    text, found = before.new_ticket("ticket", HOST)
    sealed, wrapped = before.seal("state", b"plain"), before.wrap(b"k" * 32, found, "ticket", b"login")
    assert found == between.read_ticket(text.encode(), "ticket", HOST)
    assert b"plain" == between.open("state", sealed)
    assert b"k" * 32 == between.unwrap(wrapped, found, "ticket", b"login")
    assert 2 == between.new_ticket("ticket", HOST)[1].key_id
    assert 2 == between.seal("state", b"plain")[0]
    assert after.read_ticket(text.encode(), "ticket", HOST) is None
    with pytest.raises(NotOurs):
        after.open("state", sealed)
    assert after.read_ticket(between.new_ticket("ticket", HOST)[0].encode(), "ticket", HOST) is not None


def test_COOK_09_a_rotation_adds_a_key_and_drops_what_was_retired_long_ago() -> None:
    """The grace counts from the day a key was replaced; with none, everybody signs in again."""
    first = (new_key(NOW),)
    assert (32, NOW, None) == (len(first[0].secret), first[0].created, first[0].retired)
    second = rotated(first, NOW + 10, keep=100)
    assert [(2, None), (1, NOW + 10)] == [(key.id, key.retired) for key in second]
    assert first[0].secret == second[1].secret
    assert second[0].secret != second[1].secret
    assert [3, 2, 1] == [key.id for key in rotated(second, NOW + 109, keep=100)]
    assert [3, 2] == [key.id for key in rotated(second, NOW + 110, keep=100)]
    assert [3] == [key.id for key in rotated(second, NOW + 10, keep=0)]


def test_ids_go_round_without_meeting() -> None:
    """After 255 comes the next free one."""
    keys = [new_key(NOW, id_) for id_ in (255, 0, 1)]
    assert [2, 255, 0, 1] == [key.id for key in rotated(keys, NOW, keep=100)]
    assert [1, 255, 0] == [key.id for key in rotated(keys[:2], NOW, keep=100)]


def test_COOK_09_the_id_of_a_key_that_was_dropped_is_not_used_for_the_next() -> None:
    """Whoever still has a ticket of it is told at once that it is not ours, without a tag being computed."""
    assert [6, 5, 2] == [key.id for key in rotated([new_key(NOW, 5), new_key(NOW, 2)], NOW, keep=100)]


def test_a_ring_shows_ids_and_no_key() -> None:
    """In a repr, a log, a traceback."""
    ring = a_ring(2, 1)
    assert "KeyRing(2, 1)" == repr(ring)
    assert "secret" not in repr(ring.keys)


def test_a_ring_needs_keys_with_ids_of_their_own() -> None:
    """An empty one seals nothing."""
    with pytest.raises(RingError, match=r"keys: .*empty"):
        KeyRing([])
    with pytest.raises(RingError, match=r"keys: .*same id"):
        KeyRing([new_key(NOW), new_key(NOW)])


# -- base64url ---------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=100))
def test_text_and_bytes_are_one_to_one(raw: bytes) -> None:
    """There and back."""
    assert raw == from_text(to_text(raw))


def test_how_long_a_sealed_text_may_be() -> None:
    """64 KiB of text, and not one character more."""
    assert 49_152 == len(from_text("A" * 65_536))
    with pytest.raises(NotOurs):
        from_text("A" * 65_538)


@pytest.mark.parametrize(
    "text", ["", "A", "AB=", "AB==", "A+B/", "AB CD", "AB\n", "é", "AA AA", "AB", "QUJ", "A" * 65_540, "AAAAA"]
)
def test_COOK_03_a_second_spelling_is_refused(text: str) -> None:
    """Padding, spaces, the other alphabet, bits that mean nothing, or far too long."""
    with pytest.raises(NotOurs):
        from_text(text)


# -- the file ----------------------------------------------------------------------------------------------------------

GOOD = to_text(bytes(range(32)))


def kept(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_a_ring_file_is_written_for_its_owner_and_read_again(tmp_path: Path) -> None:
    """0600, whole, with a head that says what it is; comments and empty lines are nothing."""
    keys = rotated((new_key(NOW),), NOW + 10, keep=100)
    path = tmp_path / "keys"
    old = os.umask(0)
    try:
        write_ring(path, keys, replace=False)
    finally:
        os.umask(old)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert keys == read_ring(path)
    assert ring_text(keys) == path.read_text()
    assert path.read_text().startswith("# Key ring")
    assert [path] == list(tmp_path.iterdir())


def test_a_ring_file_is_never_overwritten_by_a_new_one(tmp_path: Path) -> None:
    """Two processes that start at once agree on one ring; a rotation replaces it whole."""
    path = tmp_path / "keys"
    first, second = (new_key(NOW),), (new_key(NOW),)
    write_ring(path, first, replace=False)
    with pytest.raises(RingError, match=r"keys_exist: .*never overwritten.*keys rotate"):
        write_ring(path, second, replace=False)
    assert first == read_ring(path)
    write_ring(path, second, replace=True)
    assert second == read_ring(path)
    assert [path] == list(tmp_path.iterdir())


def test_a_ring_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    """And leaves nothing behind."""
    (tmp_path / "a directory").mkdir()
    with pytest.raises(RingError, match=r"^keys: .*a directory: cannot be written"):
        write_ring(tmp_path / "a directory", (new_key(NOW),), replace=True)
    (tmp_path / "a directory").rmdir()
    with pytest.raises(RingError, match=r"^keys: .*missing/keys: cannot be written \(No such file or directory\)"):
        write_ring(tmp_path / "missing" / "keys", (new_key(NOW),), replace=True)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "no key in it; make one with: psc-forward-auth keys new"),
        ("# only a comment\n\n", "no key in it"),
        ("a key\n", ":1: not «id created retired key»"),
        (f"1 {NOW} - {GOOD} more\n", ":1: not «id created retired key»"),
        (f"# head\n1 {NOW} yesterday {GOOD}\n", ":2: not «id created retired key»"),
        (f"1 {NOW} - {GOOD}=\n", ":1: not «id created retired key»"),
        (f"1 {NOW} - A\n", ":1: the key is not base64url"),
        (f"1 {NOW} - {to_text(bytes(range(31)))}\n", ":1: key shorter than 32 bytes or id above 255"),
        (f"256 {NOW} - {GOOD}\n", ":1: key shorter than 32 bytes or id above 255"),
        (f"1 {NOW} - {'A' * 43}\n", ":1: the key is not random"),
        (f"1 {NOW} - {to_text(b'changeme' * 4)}\n", ":1: the key is not random"),
        (f"1 {NOW} - {to_text(bytes((*range(7), 0)) * 4)}\n", ":1: the key is not random"),
        (f"1 {NOW} - {to_text(b'exampleexampleexampleexampleexam')}\n", ":1: the key is not random"),
    ],
)
def test_LIFE_06_a_ring_file_with_a_mistake_is_refused_with_its_line(
    tmp_path: Path, content: str, sentence: str
) -> None:
    """A short key, an example key, a typing error: what is wrong and what to write instead; never the key itself."""
    path = kept(tmp_path / "keys", content)
    with pytest.raises(RingError) as caught:
        read_ring(path)
    assert "keys" == caught.value.code
    assert str(path) in caught.value.detail
    assert sentence in caught.value.detail
    assert "psc-forward-auth keys new" in caught.value.detail
    for word in content.split():
        assert len(word) < 40 or word not in str(caught.value)


def test_a_ring_file_may_have_spaces_around_its_lines_and_the_last_id(tmp_path: Path) -> None:
    """Whoever edits it by hand does no harm by an empty line; eight different bytes are the least that looks random."""
    eight = bytes(range(8)) * 4
    path = kept(tmp_path / "keys", f"  # a note\n   \n\t255 {NOW} - {to_text(eight)}  \n".replace("  #", "#"))
    assert (RingKey(255, NOW, None, eight),) == read_ring(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622, 0o601])
def test_LIFE_06_a_ring_file_for_others_is_refused(tmp_path: Path, mode: int) -> None:
    """Any bit for group or others."""
    path = kept(tmp_path / "keys", f"1 {NOW} - {GOOD}\n", mode)
    with pytest.raises(RingError, match=r"^keys: .*readable by others; run: chmod 600"):
        read_ring(path)
    assert 1 == len(read_ring(path, mode_of=lambda _: 0o600))


def test_LIFE_06_a_ring_file_that_is_none_says_how_to_make_one(tmp_path: Path) -> None:
    """Absent, a directory, binary."""
    for path in (tmp_path / "absent", tmp_path, kept(tmp_path / "binary", b"\xff\xfe")):
        with pytest.raises(RingError, match=r"^keys: .*cannot be read.*keys new"):
            read_ring(path)
