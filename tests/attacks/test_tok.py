"""TOK: bearer tokens are not in this version, so no token of PSC is a key to anything: beside nothing, beside a bad cookie, beside a good one."""

import pytest
from attack_rig import DOCTOR, NURSE, SUBJECTS, Place


@pytest.mark.parametrize("scheme", ["Bearer", "bEaReR", "DPoP", "Basic"])
def test_TOK_07_19_tokens_of_psc_open_nothing(place: Place, scheme: str) -> None:
    """The access token of a live session at PSC in `Authorization`: 401 without a cookie; beside a cookie it neither helps nor changes who it is."""
    (token, *_) = place.simulator.realm.access
    line = f"Authorization: {scheme} {token}\r\n"
    stranger = place.ask("/secret/x", None, lines=line)
    assert 401 == stranger.status
    assert not stranger.passed
    assert "error=" not in stranger["WWW-Authenticate"]
    nurse = place.ask("/secret/x", NURSE, lines=line)
    assert (403, False) == (nurse.status, nurse.passed)
    doctor = place.ask("/secret/x", DOCTOR, lines=line)
    assert (True, SUBJECTS[DOCTOR]) == (doctor.passed, doctor.subject)


def test_TOK_01_unsigned_tokens_open_nothing(place: Place) -> None:
    """Tokens anybody can make, as bearer or as our cookie: no session."""
    for token in (
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiI4OTk3MDAwMDAwMDEifQ.",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiI4OTk3MDAwMDAwMDEifQ",
        "null",
        "",
    ):
        for lines in (
            f"Authorization: Bearer {token}\r\n",
            f"Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n",
            f"Cookie: __Host-psc={token}\r\n",
        ):
            assert not place.ask("/secret/x", None, lines=lines).passed
