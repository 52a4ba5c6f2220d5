"""`explain` tells what the gate would do, and why, before a professional calls."""

from dataclasses import replace

import pytest
from hall_samples import CONFIG_HEAD, DOCTOR, NOW, PHARMACIST, a_login, a_person, loaded
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from forward_auth.decision import Allow, SignIn
from forward_auth.explain import explain, person_of
from forward_auth.gate import Gate
from forward_auth.identity import IdentityError
from forward_auth.logins import Memory
from forward_auth.original import Original, read_target
from forward_auth.sealing import KeyRing, new_key
from forward_auth.settings import Settings
from forward_auth.sites import compile_sites

CONFIG = f"""{CONFIG_HEAD}
[apps.dossier]
origins = ["https://dossier.hopital.example"]
background_paths = ["/doctors/poll"]

[[apps.dossier.rules]]
paths = ["/public/*"]
open = true

[[apps.dossier.rules]]
paths = ["/doctors/*"]
methods = ["GET"]
require = {{ profession = ["10"] }}

[[apps.dossier.rules]]
paths = ["/fresh/*"]
require = {{ max_age = "1m" }}

[[apps.dossier.rules]]
paths = ["/pharmacists", "/anybody"]
require = {{ any = [ {{ profession = ["21"] }}, {{ mode = ["L"] }} ] }}

[[apps.dossier.rules]]
paths = ["/anybody/*"]
require = {{ acr = ["eidas1"] }}

[apps.closed]
origins = ["https://closed.hopital.example"]

[[apps.closed.rules]]
paths = ["/open"]
open = true

[apps.implicit]
origins = ["https://implicit.hopital.example"]
"""
SITE = "https://dossier.hopital.example"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return loaded(tmp_path_factory.mktemp("explain"), CONFIG)


def line_of(rule: int) -> int:
    """Where the rule of that number of `dossier` stands."""
    heads = [number for number, line in enumerate(CONFIG.splitlines(), 1) if line == "[[apps.dossier.rules]]"]
    return heads[rule - 1]


@pytest.mark.parametrize(
    ("method", "url", "decision", "fragments"),
    [
        ("GET", f"{SITE}/public/x", "open", ["rule 1 (", "is open: anybody passes", "read as /public/x"]),
        ("GET", f"{SITE}/doctors/x", "allow", ["rule 2 (", "allows: situation 1 of 1 makes it hold", "rule 1 ("]),
        ("GET", f"{SITE}/doctors/poll", "allow", ["rule 2 ("]),
        ("POST", f"{SITE}/doctors/x", "refuse", ["no rule matches: refused", "methods are GET", "paths are /public/*"]),
        (
            "GET",
            f"{SITE}/DOCTORS/X?a=/public/",
            "allow",
            ["read as /DOCTORS/X (open rules) and /doctors/x (other rules)"],
        ),
        ("GET", f"{SITE}/pharmacists", "refuse", ["rule 4 (", "refuses:", "none of: profession is 10", "mode is S"]),
        ("GET", f"{SITE}/anybody/x", "allow", ["rule 5 ("]),
        ("GET", f"{SITE}/nothing", "refuse", ["no rule matches: refused"]),
        ("GET", f"{SITE}/public//x", "refuse", ["two readings", "rule 4 (", "none of"]),
        ("GET", f"{SITE}/%zz", "refuse", ["malformed"]),
        ("GE T", f"{SITE}/public/", "refuse", ["malformed"]),
        ("GET", f"{SITE}/psc/start", "refuse", ["/psc/* belongs to the outer door: route it there"]),
        ("GET", "https://other.example/", "refuse", ["no app has the origin https://other.example"]),
        ("GET", "dossier.hopital.example/", "refuse", ["not an absolute address"]),
        ("GET", "https://a@b/", "refuse", ["not an absolute address"]),
        ("GET", "https://closed.hopital.example/a//b", "refuse", ["two readings", "no such rule: refused"]),
        ("GET", "https://implicit.hopital.example/a//b", "allow", ["two readings", "rule 1 (implicit) allows"]),
        ("GET", "https://implicit.hopital.example", "allow", ["rule 1 (implicit) allows: situation 1 of 1"]),
        ("GET", "HTTPS://Implicit.hopital.example:443?x#y", "allow", ["read as / (open rules)"]),
        ("GET", "https://implicit.hopital.example/\udce9", "allow", ["two readings"]),
        ("\udce9", "https://implicit.hopital.example/", "refuse", ["malformed"]),
    ],
)
def test_a_decision_is_told_with_its_rule_and_its_line(
    config: Settings, method: str, url: str, decision: str, fragments: list[str]
) -> None:
    """For a hospital doctor who has just authenticated."""
    told = explain(config, a_person(), method, url, NOW)
    story = "\n".join(told.lines)
    assert decision == told.decision, story
    assert all(fragment in story for fragment in fragments), story


def test_a_rule_is_named_by_number_and_line_of_the_file(config: Settings) -> None:
    """So that an editor can go there."""
    story = explain(config, a_person(PHARMACIST), "GET", f"{SITE}/doctors/", NOW).lines
    assert f"rule 2 ({config.path}:{line_of(2)}) refuses:" in story
    assert "  situation 1: profession is 21, not one of 10" in story


def test_a_fresh_authentication_is_asked_for(config: Settings) -> None:
    """Not refused: the person can mend it."""
    told = explain(config, a_person(), "GET", f"{SITE}/fresh/", NOW + 61)
    assert "sign-in" == told.decision
    assert any("asks for a fresh authentication" in line for line in told.lines)
    assert any("authenticated 61 s ago, more than 60 s" in line for line in told.lines)


def test_a_person_without_situations_may_pass_a_rule_that_asks_none(config: Settings) -> None:
    """And that is said."""
    nobody = replace(a_person(), situations=())
    told = explain(config, nobody, "GET", f"{SITE}/anybody/x", NOW)
    assert ("allow", True) == (told.decision, told.lines[-1].endswith("allows: it asks nothing of a situation"))


def test_a_person_is_a_userinfo_document_taken_as_just_authenticated(config: Settings) -> None:
    """With the acr that we ask for; a document without a national id is nobody."""
    person = person_of({"SubjectNameID": "899700000042", "sub": "f:1"}, config, NOW)
    assert ("899700000042", "f:1", "eidas1", NOW) == (person.subject, person.sub, person.acr, person.auth_time)
    assert "explained" == person_of({"SubjectNameID": "899700000042"}, config, NOW).sub
    bare = replace(config, psc=replace(config.psc, acr_values=()))
    assert "" == person_of({"SubjectNameID": "899700000042"}, bare, NOW).acr
    with pytest.raises(IdentityError, match="no_subject"):
        person_of({"sub": "f:1"}, config, NOW)


PIECES = "/ public doctors DOCTORS fresh pharmacists anybody poll psc .. // %2e %2F ; % . %20 é \udce9 ? # %70"
PATHS = st.lists(st.sampled_from(PIECES.split()), max_size=6).map(lambda parts: "/" + "".join(parts))


@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    PATHS,
    st.sampled_from(["GET", "POST", ""]),
    st.lists(st.sampled_from([DOCTOR, PHARMACIST]), min_size=1, max_size=2),
    st.sampled_from([0, 61]),
)
def test_explain_and_the_gate_say_the_same(
    config: Settings, path: str, method: str, who: list[object], age: int
) -> None:
    """Law: what is explained is what happens."""
    person = a_person(*who)  # type: ignore[arg-type]
    told = explain(config, person, method, SITE + path, NOW + age)
    memory = Memory()
    gate = Gate(compile_sites(config, memory), memory, KeyRing([new_key(NOW)]))
    memory.remember(memory.host("dossier.hopital.example"), b"ticket", a_login(1, person))
    read = read_target(path.encode("utf-8", "surrogateescape"))
    assert read is not None
    decision = gate.check(Original(SITE, method.encode(), *read, b"", {}), b"ticket", NOW + age)
    if isinstance(decision, Allow):
        assert told.decision == ("open" if decision.outcome == "open" else "allow")
    else:
        assert told.decision == ("sign-in" if isinstance(decision, SignIn) else "refuse")
