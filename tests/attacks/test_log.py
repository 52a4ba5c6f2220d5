"""LOG-01 and LOG-04 through nginx with the shipped files: what somebody writes into a request cannot write into a log, and no log but the trail names anybody.

Alone: tests/cli/test_observability.py and tests/web/test_trail.py. That no secret stands in any log is asked after every case of every attack
(attack_rig, question c).
"""

import json

from attack_rig import DOCTOR, NURSE, SUBJECTS, Place
from signin_steps import PATH

NASTY = 'x","status":200,"client":"10.0.0.1'


def lines_of_nginx(place: Place) -> list[str]:
    """nginx leaves bytes above 0x7f as they came: of an agent that is no UTF-8 they are read as marks of replacement."""
    return (place.house.nginx.folder.parent / "psc-forward-auth.log").read_text(errors="replace").splitlines()


def test_LOG_01_injection(place: Place) -> None:
    """Quotes, terminal colours and would-be members of JSON in the path, the agent, the Referer, a cookie: each request is one line, one object, and says
    what truly happened."""
    before = len(lines_of_nginx(place))
    for target, lines in (
        (f"/a{NASTY}", b""),
        ("/\x1b[31mred", b""),
        ("/x", f"User-Agent: {NASTY}\r\n".encode()),
        ("/x", f"Referer: https://{NASTY}\r\n".encode()),
        ("/x", f"Cookie: __Host-psc={NASTY}\r\n".encode()),
        ("/x", f"X-Forwarded-For: {NASTY}\r\n".encode()),
        ("/%0a%0d{}", b"User-Agent: \xe9\xff\r\n"),
    ):
        outcome = place.ask(target, None, lines=lines)
        assert outcome.status in (400, 401, 403)
    place.look_at_the_logs()
    if place.by_nginx:
        new = lines_of_nginx(place)[before:]
        assert new
        for line in new:
            told = json.loads(line)
            assert isinstance(told["status"], int)
            assert "10.0.0.1" != told["client"]
            assert line.isprintable()


def test_LOG_02_04_no_secret_and_no_person_outside_the_trail(place: Place) -> None:
    """A doctor and a nurse work, are refused, ask for their session: neither our log nor nginx's names them, nor holds a query."""
    place.house.log.lines.clear()
    for person in (DOCTOR, NURSE):
        for target in ("/secret/42", PATH, "/nothing?patient=DURAND"):
            place.ask(target, person)
        place.get(place.house.browsers[person], place.origin() + "/psc/session?patient=DURAND")
    text = "\n".join([*place.house.log.lines, *lines_of_nginx(place)])
    for canary in (SUBJECTS[DOCTOR], SUBJECTS[NURSE], SUBJECTS[DOCTOR][1:], "DUPONT", "LEROY", "DURAND", "biologie"):
        assert canary not in text
    for secret in place.house.canaries():
        assert secret not in text


def test_LOG_05_hostile_requests_leave_few_lines(place: Place) -> None:
    """A hundred hostile requests, of ten kinds: our log says a few of them at most, the trail none, and a check nothing at all."""
    place.house.log.lines.clear()
    events = len(place.running.audit())
    ticket = place.ticket(DOCTOR)
    for number in range(10):
        place.ask(f"/{number}/%zz", None)
        place.ask(f"/{number}/..%2f..%5c", None, cookie=f"__Host-psc={ticket[:-8]}{number:08}")
        place.ask("/x", None, cookie=f"__Host-psc={'A' * 64}; __Host-psc={'B' * 64}")
        place.ask("/x", None, lines=f"X-Forwarded-Host: evil{number}.example\r\n")
        place.ask("/x", None, method="TRACE")
        place.ask(f"/{'x' * 3000}{number}", None)
        place.ask("/x", None, lines=f"Authorization: Bearer {number}\r\n")
        place.ask("/psc/../x", None)
        place.ask("/x", None, lines=f"X-PSC-Subject: {number}\r\n")
        place.ask("/x", NURSE, method="POST")
    told = [line for line in place.house.log.lines if json.loads(line)["level"].lower() != "debug"]
    assert len(told) <= 10, told
    assert len(place.running.audit()) <= events + 1
