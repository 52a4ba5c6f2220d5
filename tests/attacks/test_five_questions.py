"""The rig itself can say no: each of its five questions, asked about something that is not as it must be."""

from collections.abc import Iterator

import pytest
from attack_rig import APPS, DOCTOR, NURSE, WITNESS, Place, rules_of
from running import Answer, Browser


@pytest.fixture
def changed(place: Place) -> Iterator[Place]:
    """A place that the test may give another idea of what is right."""
    yield place
    place.rules = rules_of(APPS)
    place.house.secrets.discard("from the application")
    place.house.secrets.discard("no-store")
    place.house.log.lines.clear()


def test_a_an_allow_that_the_model_does_not_know(changed: Place) -> None:
    """The model has a stricter rule than the service: the allow is a wrong one."""
    assert changed.ask("/dossier", NURSE).passed
    changed.rules = rules_of(APPS.replace('acr = ["eidas1"]', 'profession = ["10"]'))
    with pytest.raises(AssertionError, match=r"^\(a\)"):
        changed.ask("/dossier", NURSE)


def test_a_an_allow_on_nobodys_credential(changed: Place) -> None:
    """A ticket that the case calls nobody's lets somebody in."""
    with pytest.raises(AssertionError, match=r"^\(a\)"):
        changed.ask("/dossier", cookie=f"__Host-psc={changed.ticket(DOCTOR)}", proves=None)


def test_b_somebody_elses_identity(changed: Place) -> None:
    """The doctor's headers on what the case calls the nurse's credential."""
    with pytest.raises(AssertionError, match=r"^\(b\)"):
        changed.ask("/dossier", cookie=f"__Host-psc={changed.ticket(DOCTOR)}", proves=NURSE)


def test_b_identity_on_an_open_rule(changed: Place) -> None:
    """What the model calls open goes out with an identity."""
    changed.rules = rules_of(APPS.replace('require = { acr = ["eidas1"] }', "open = true"))
    with pytest.raises(AssertionError, match=r"^\(b\)"):
        changed.ask("/dossier", DOCTOR)


def test_c_a_secret_in_an_answer(changed: Place) -> None:
    """Something of the answer is declared a secret."""
    changed.house.secrets.add("from the application" if changed.by_nginx else "no-store")
    with pytest.raises(AssertionError, match=r"^\(c\)"):
        changed.ask("/dossier", DOCTOR)


def test_c_a_secret_in_a_log(changed: Place) -> None:
    """A ticket in the service's log is seen."""
    changed.house.log.lines.append(f"ticket {changed.ticket(DOCTOR)}")
    with pytest.raises(AssertionError, match=r"^\(c\)"):
        changed.look_at_the_logs()


def test_d_the_next_good_request_is_refused(changed: Place) -> None:
    """The witness is no longer let in."""
    witness = changed.house.browsers[WITNESS]
    changed.house.browsers[WITNESS] = Browser()
    try:
        with pytest.raises(AssertionError, match=r"^\(d\)"):
            changed.ask("/dossier", DOCTOR)
    finally:
        changed.house.browsers[WITNESS] = witness


def test_e_an_answer_of_our_own_fault(changed: Place) -> None:
    """A 503 is no answer unless the case says so."""
    changed.look_over(Answer(503, {}, b""), fault=True)
    with pytest.raises(AssertionError, match=r"^\(e\)"):
        changed.look_over(Answer(503, {}, b""))
