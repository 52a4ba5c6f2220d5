"""From settings to what the gate works with: every origin a site, every rule an id of its own."""

from itertools import count
from pathlib import Path

from hall_samples import CONFIG_HEAD, NOW, a_login, a_person, loaded, told

from forward_auth.decision import Because, Refuse
from forward_auth.gate import Gate
from forward_auth.logins import Memory
from forward_auth.original import Original
from forward_auth.policy import Require
from forward_auth.sealing import KeyRing, new_key
from forward_auth.sites import compile_app, compile_sites

CONFIG = f"""{CONFIG_HEAD}
[session]
idle = "20m"

[apps.dossier]
origins = ["https://dossier.hopital.example", "https://dossier.hopital.example:8443"]
title = "Dossier patient"
allow_preflight = true
background_paths = ["/poll"]
headers = {{ profile = "authelia" }}

[[apps.dossier.rules]]
paths = ["/public/*"]
open = true

[[apps.dossier.rules]]
paths = ["/prescrire/*"]
methods = ["POST", "PUT"]
require = {{ profession = ["10"], max_age = "15m" }}

[apps.radio]
origins = ["https://radio.hopital.example"]
idle = "5m"
"""


def test_every_origin_is_a_site_and_ports_share_their_tickets(tmp_path: Path) -> None:
    """Decision 32: one app, one memory of tickets per hostname."""
    memory = Memory()
    sites = compile_sites(loaded(tmp_path, CONFIG), memory)
    first, second, radio = (
        sites["https://dossier.hopital.example"],
        sites["https://dossier.hopital.example:8443"],
        sites["https://radio.hopital.example"],
    )
    assert 3 == len(sites)
    assert first.app is second.app
    assert first.host is second.host is memory.host("dossier.hopital.example")
    assert first.host is not radio.host
    assert ("Dossier patient", "radio") == (first.app.title, radio.app.title)
    assert [True, False] == [first.preflight, radio.preflight]
    assert [None, 300] == [first.idle, radio.idle]  # an app's own idle time only where it is shorter than the login's
    assert "Remote-User" in first.plan.names
    assert "X-PSC-Subject" in radio.plan.names


def test_rules_are_compiled_with_ids_of_their_own(tmp_path: Path) -> None:
    """Unique in the whole policy, for decisions are remembered under them; an open rule asks nothing."""
    sites = compile_sites(loaded(tmp_path, CONFIG), Memory())
    apps = {site.app.name: site.app for site in sites.values()}
    rules = [rule for app in apps.values() for rule in app.rules]
    assert len(rules) == len({rule.id for rule in rules})
    public, prescribe = apps["dossier"].rules
    assert (True, Require(), None) == (public.open, public.require, public.methods)
    assert (frozenset({b"POST", b"PUT"}), ("10",), 900) == (
        prescribe.methods,
        prescribe.require.profession,
        prescribe.require.max_age,
    )
    assert CONFIG.splitlines()[prescribe.line - 1] == "[[apps.dossier.rules]]"
    assert 1 == prescribe.number - public.number
    assert [7, 8] == [rule.id for rule in compile_app(loaded(tmp_path, CONFIG).apps[0], count(7), "/psc").rules]


def test_an_app_without_rules_asks_for_a_professional(tmp_path: Path) -> None:
    """Contract §3: on every path, with the acr that is asked for; and no weaker one passes."""
    memory, ring = Memory(), KeyRing([new_key(NOW)])
    gate = Gate(compile_sites(loaded(tmp_path, CONFIG), memory), memory, ring)
    host = memory.host("radio.hopital.example")
    memory.remember(host, b"good", a_login(1))
    memory.remember(host, b"weak", a_login(2, a_person(acr="eidas0", subject="899700000043")))
    original = Original("https://radio.hopital.example", b"GET", b"/any", None, b"", {})
    assert "899700000042" == told(gate.check(original, b"good", NOW))["X-PSC-Subject"]
    weak = gate.check(original, b"weak", NOW)
    assert ("step_up", ("eidas1",)) == (getattr(weak, "why", None), getattr(weak, "acr", None))
    nothing = Original("https://dossier.hopital.example:8443", b"GET", b"/nothing", None, b"", {})
    assert Refuse(Because.NO_RULE, "dossier") == gate.check(nothing, None, NOW)
