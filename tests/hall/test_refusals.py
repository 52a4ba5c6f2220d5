"""A refusal has a reference for five minutes, and the audit trail hears of it once."""

import re

from forward_auth.refusals import FRESH, Refusals, new_reference


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_reference_can_be_read_on_the_telephone() -> None:
    """Eight letters and digits that are not misheard, in two groups; hardly ever the same twice."""
    references = {new_reference() for _ in range(200)}
    assert 200 == len(references)
    assert all(re.fullmatch(r"[2-9A-HJ-NP-Z]{4}-[2-9A-HJ-NP-Z]{4}", each) for each in references)


def test_the_same_refusal_keeps_its_reference_and_is_counted() -> None:
    """Per login, app and rule: told at once, then not for five minutes, then with how many there were (decision 27)."""
    clock = Clock()
    refusals = Refusals(clock)
    first, count = refusals.note(b"login", "dossier", 3)
    assert (1, b"login", "dossier", 3) == (count, first.login_id, first.app, first.rule)
    assert [(first, 0)] * 4 == [refusals.note(b"login", "dossier", 3) for _ in range(4)]
    clock.now += FRESH
    again, count = refusals.note(b"login", "dossier", 3)
    assert 5 == count
    assert first.reference != again.reference
    clock.now += FRESH
    assert 1 == refusals.note(b"login", "dossier", 3)[1]


def test_other_refusals_are_other_references() -> None:
    """Another login, app or rule."""
    refusals = Refusals(Clock())
    causes = [(b"a", "x", 1), (b"b", "x", 1), (b"a", "y", 1), (b"a", "x", 2)]
    noted = [refusals.note(*cause) for cause in causes]
    assert [1, 1, 1, 1] == [count for _, count in noted]
    assert 4 == len({refusal.reference for refusal, _ in noted})


def test_a_refusal_is_found_by_its_reference_while_it_is_fresh() -> None:
    """Five minutes to the second; a made-up reference finds nothing."""
    clock = Clock()
    refusals = Refusals(clock)
    refusal, _ = refusals.note(b"login", "dossier", 3)
    assert refusal == refusals.find(refusal.reference)
    assert refusals.find("AAAA-AAAA") is None
    clock.now += FRESH - 1
    assert refusal == refusals.find(refusal.reference)
    clock.now += 1
    assert refusals.find(refusal.reference) is None


def test_CACHE_03_refusals_are_bounded() -> None:
    """Ten thousand are kept, whatever comes."""
    refusals = Refusals(Clock())
    first, _ = refusals.note(b"first", "dossier", 1)
    for number in range(10_001):
        refusals.note(b"%d" % number, "dossier", 1)
    assert refusals.find(first.reference) is None
    assert refusals.note(b"10000", "dossier", 1)[1] == 0
