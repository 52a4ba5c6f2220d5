"""Inputs out of a corpus by changes: bytes cut, put in, doubled, taken from another input."""

from collections.abc import Sequence

from hypothesis import strategies as st

_PIECES = [b"\r\n", b"\n", b"\0", b"%2e", b"//", b"\\", b"..", b";", b'"', b"{", b"[" * 40, b":", b"=", b"\xff", b"\xc3\xa9", b"1e999", b"null", b"true"]  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, corpus: Sequence[bytes]) -> bytes:
    """One input of the corpus with up to four changes."""
    data = bytearray(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 12))
        new = draw(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=8), st.just(bytes(data[at : at + 40]))))
        if draw(st.integers(0, 9)) == 0:
            other = draw(st.sampled_from(corpus))
            new = other[draw(st.integers(0, len(other))) :]
        data[at : at + size] = new
    return bytes(data[:4096])
