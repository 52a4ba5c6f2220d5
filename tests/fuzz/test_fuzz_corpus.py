"""What fuzzing has found is replayed, and a little looked for: every oracle of fuzz_targets.py holds for every input that is kept."""

import logging
from collections.abc import Iterator

import pytest
from fuzz import fuzz_targets
from fuzz.changes import changed
from fuzz.fuzz_targets import CORPUS, LARGEST, TARGETS, OracleError, corpus
from fuzz.names import NAMES
from hypothesis import HealthCheck, given, settings

MOST = 300 * 1024


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    before = logging.getLogger("forward_auth").level
    logging.getLogger("forward_auth").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("forward_auth").setLevel(before)


@pytest.mark.parametrize("name", NAMES)
def test_corpus(name: str) -> None:
    """Every input that was ever worth keeping: its oracle holds."""
    for data in corpus(name):
        TARGETS[name](data)


@pytest.mark.parametrize("name", NAMES)
def test_changed(name: str) -> None:
    """A few hundred neighbours of the corpus, the same ones each time."""

    @settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(changed(corpus(name)))
    def holds(data: bytes) -> None:
        TARGETS[name](data)

    holds()


def test_the_corpus_is_small() -> None:
    """Each target has one, none is forgotten, and all together are small enough for git."""
    assert list(NAMES) == list(TARGETS)
    assert set(NAMES) == {path.name for path in CORPUS.iterdir()}
    sizes = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
    assert max(sizes) <= LARGEST
    assert sum(sizes) <= MOST


@pytest.mark.parametrize(
    ("reader", "name", "wrong"),
    [
        ("read_cookie", "cookie", lambda header, name: header.partition(name + b"=")[2].partition(b";")[0] or None),
        ("read_to", "target", lambda raw, *_, **__: _Somewhere(raw.decode("latin-1"))),
        ("read_jwks", "jwks", lambda body: _EMPTY),
    ],
)
def test_an_oracle_can_say_no(monkeypatch: pytest.MonkeyPatch, reader: str, name: str, wrong: object) -> None:
    """With a reader that believes too much in the place of ours, the corpus alone is enough to notice."""
    monkeypatch.setattr(fuzz_targets, reader, wrong)
    with pytest.raises(OracleError):
        for data in corpus(name):
            TARGETS[name](data)


class _Somewhere:
    def __init__(self, location: str) -> None:
        self.location = location
        self.origin = location

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Somewhere) and other.location == self.location

    __hash__ = None  # type: ignore[assignment]


class _Empty:
    by_kid: dict[str, object] = {}  # noqa: RUF012 - of a stand-in
    unnamed = ()
    skipped = 0


_EMPTY = _Empty()
