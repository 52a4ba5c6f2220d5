"""What the application is told: which names, in which encoding, and never a byte that is not meant."""

import re
from dataclasses import replace
from email.header import decode_header
from urllib.parse import unquote

import pytest
from hall_samples import DOCTOR
from hypothesis import given, settings
from hypothesis import strategies as st

from forward_auth.headers import (
    BLOCK_BYTES,
    EMPTIED_FIRST,
    ENCODINGS,
    FIELDS,
    PROFILES,
    VALUES_BYTES,
    HeaderPlan,
    encode,
)
from forward_auth.identity import TEXT_BYTES, Identity, Situation

SITUATION = replace(
    DOCTOR,
    structure="F0B0199999",
    structure_name="Hôpital de l’Île",
    structures=("F0B0199999", "0B0199999"),
    given_name="Inès",
    family_name="Martel",
)
IDENTITY = Identity(
    issuer="https://auth.psc.example/realms/wallet",
    sub="5d3b1f6e-0000",
    subject="899700000042",
    given_name="Inès Marie",
    family_name="Dubois",
    situations=(SITUATION,),
    acr="eidas1",
    auth_mode="CARD",
    auth_time=1_800_000_000,
)


def lines(block: bytes) -> dict[str, str]:
    """The block as a strict reader sees it: one header per CRLF, names once."""
    assert block.endswith(b"\r\n")
    pairs = [line.split(": ", 1) for line in block.decode().removesuffix("\r\n").split("\r\n")]
    found = dict(pairs)
    assert len(pairs) == len(found)
    return found


# -- profiles ----------------------------------------------------------------------------------------------------------


def test_profile_psc() -> None:
    """The default profile is the table of the contract, in its order."""
    expected = {
        "X-PSC-Subject": "899700000042",
        "X-PSC-RPPS": "99700000042",
        "X-PSC-Given-Name": "In%C3%A8s",
        "X-PSC-Family-Name": "Martel",
        "X-PSC-Profession": "10",
        "X-PSC-Category": "C",
        "X-PSC-Role": "FON-35",
        "X-PSC-Speciality": "SM26",
        "X-PSC-Sector": "SA01",
        "X-PSC-Structure": "F0B0199999",
        "X-PSC-Structure-Name": "H%C3%B4pital%20de%20l%E2%80%99%C3%8Ele",
        "X-PSC-Acr": "eidas1",
        "X-PSC-Auth-Mode": "CARD",
        "X-PSC-Auth-Time": "1800000000",
        "X-PSC-Account": "imartel",
    }
    plan = HeaderPlan()
    assert expected == lines(plan.render(IDENTITY, SITUATION, "imartel"))
    assert tuple(expected) == plan.names
    assert list(expected.items()) == plan.values(IDENTITY, SITUATION, "imartel")


def test_profile_mod_auth_openidc() -> None:
    """An application written for mod_auth_openidc finds the claims it knows, values as PSC writes them."""
    found = lines(HeaderPlan("mod_auth_openidc", "utf8").render(IDENTITY, SITUATION))
    assert {
        "X-Remote-User": "899700000042",
        "OIDC-CLAIM-SUBJECTNAMEID": "899700000042",
        "OIDC-CLAIM-PREFERRED-USERNAME": "899700000042",
        "OIDC-CLAIM-SUB": "5d3b1f6e-0000",
        "OIDC-CLAIM-ISS": "https://auth.psc.example/realms/wallet",
        "OIDC-CLAIM-GIVEN-NAME": "Inès",
        "OIDC-CLAIM-FAMILY-NAME": "Martel",
        "OIDC-CLAIM-CODEPROFESSION": "10",
        "OIDC-CLAIM-CODECATEGORIEPROFESSIONNELLE": "C",
        "OIDC-CLAIM-CODEROLE": "FON-35",
        "OIDC-CLAIM-CODESAVOIRFAIRE": "SM26",
        "OIDC-CLAIM-CODESECTEURDACTIVITE": "SA01",
        "OIDC-CLAIM-SUBJECTROLE": "10^1.2.250.1.213.1.1.5.5",
        "OIDC-CLAIM-SECTEUR-ACTIVITE": "SA01^1.2.250.1.71.4.2.4",
        "OIDC-CLAIM-SUBJECTORGANIZATION": "Hôpital de l’Île",
        "OIDC-CLAIM-SUBJECTORGANIZATIONID": "F0B0199999",
        "OIDC-CLAIM-ACR": "eidas1",
        "OIDC-CLAIM-AUTHMODE": "CARD",
        "OIDC-CLAIM-AUTH-TIME": "1800000000",
    } == found


GROUPS = "profession:10,category:C,role:FON-35,speciality:SM26,sector:SA01,structure:F0B0199999"


@pytest.mark.parametrize(("account", "user"), [("", "899700000042"), ("imartel", "imartel")])
def test_profile_oauth2_proxy(account: str, user: str) -> None:
    """As oauth2-proxy: the id as user, the account as preferred name, codes as groups, and an address that nobody can forge."""
    expected = {"User": "899700000042", "Email": "", "Preferred-Username": user, "Groups": GROUPS}
    found = lines(HeaderPlan("oauth2-proxy").render(IDENTITY, SITUATION, account))
    assert {
        f"{p}-{name}": value for p in ("X-Auth-Request", "X-Forwarded") for name, value in expected.items()
    } == found


@pytest.mark.parametrize(("account", "user"), [("", "899700000042"), ("imartel", "imartel")])
def test_profile_authelia(account: str, user: str) -> None:
    """As Authelia: user (the linked account, else the id), full name, groups, no address."""
    expected = {"Remote-User": user, "Remote-Name": "In%C3%A8s%20Martel", "Remote-Groups": GROUPS, "Remote-Email": ""}
    assert expected == lines(HeaderPlan("authelia").render(IDENTITY, SITUATION, account))


@pytest.mark.parametrize("profile", PROFILES)
def test_HDR_01_every_name_every_time(profile: str) -> None:
    """Anonymous or known, with or without a situation, every name is there: the proxy always overwrites a forged one."""
    plan = HeaderPlan(profile)
    anonymous = lines(plan.render(None, SITUATION, "imartel"))
    assert dict.fromkeys(plan.names, "") == anonymous == dict(plan.values(None, None))
    assert plan.names == tuple(lines(plan.render(IDENTITY, None)))
    assert plan.names == tuple(lines(plan.render(IDENTITY, SITUATION, "imartel")))


def test_person_without_situation() -> None:
    """Without a chosen situation the person is still named, by civil names, and every code is empty."""
    found = {name: value for name, value in lines(HeaderPlan().render(IDENTITY, None)).items() if value}
    assert {
        "X-PSC-Subject": "899700000042",
        "X-PSC-RPPS": "99700000042",
        "X-PSC-Given-Name": "In%C3%A8s%20Marie",
        "X-PSC-Family-Name": "Dubois",
        "X-PSC-Acr": "eidas1",
        "X-PSC-Auth-Mode": "CARD",
        "X-PSC-Auth-Time": "1800000000",
    } == found


def test_unknown_values_are_empty() -> None:
    """What is not known is empty, neither zero nor a bare OID."""
    bare = Identity(issuer="https://i.example", sub="s", subject="ANS20231122132732")
    assert {"X-PSC-Subject": "ANS20231122132732"} == {k: v for k, v in HeaderPlan().values(bare, None) if v}
    assert {"Remote-User": "ANS20231122132732"} == {k: v for k, v in HeaderPlan("authelia").values(bare, None) if v}
    assert {"", "ANS20231122132732", "s", "https://i.example"} == {
        value for _, value in HeaderPlan("mod_auth_openidc").values(bare, Situation())
    }


def test_subject_with_a_slash() -> None:
    """A slash of a national id stays a slash in every encoding."""
    employee = replace(IDENTITY, subject="500000001815646/CPAT00045")
    for encoding in ENCODINGS:
        assert "500000001815646/CPAT00045" == lines(HeaderPlan("psc", encoding).render(employee, None))["X-PSC-Subject"]


def test_code_with_a_comma_makes_no_group() -> None:
    """A code that would read as two groups, or as another one, is left out of the groups."""
    sly = Situation(profession="1,profession:10", sector="SA01", structure="x:y")
    assert "sector:SA01" == dict(HeaderPlan("authelia").values(IDENTITY, sly))["Remote-Groups"]


# -- names -------------------------------------------------------------------------------------------------------------


def test_own_names() -> None:
    """An own name takes the place of the profile's name, in its position; in other profiles it is added."""
    own = {"account": "X-Remote-User", "given_name": "X-Prenom"}
    plan = HeaderPlan("psc", own=own)
    assert ("X-PSC-Subject", "X-PSC-RPPS", "X-Prenom") == plan.names[:3]
    assert "X-Remote-User" == plan.names[-1]
    assert len(FIELDS) == len(plan.names)
    assert "imartel" == lines(plan.render(IDENTITY, SITUATION, "imartel"))["X-Remote-User"]
    assert ("X-Prenom", "X-Remote-User") == HeaderPlan("authelia", own=own).names[4:]


@pytest.mark.parametrize(
    "name",
    ["", "-", "X_PSC", "X.PSC", "X-", "-X", "X--Y", "1-User", "X User", "X:User", "X-User\r\n", "X-Usér", "X-User ", "a" * 65, "a-b-c-d-e-f-g",
     "Host", "cookie", "COOKIE", "Set-Cookie", "Authorization", "Proxy-Authorization", "Connection", "Keep-Alive", "TE", "Trailer",
     "Transfer-Encoding", "Upgrade", "Content-Length", "Content-Type", "X-Forwarded-User", "x-forwarded-for", "X-Forwarded",
     "X-Original-URL", "X-Real-IP", "Forwarded", "Via", "Location", "Cache-Control", "WWW-Authenticate", "Accept", "Origin",
     "Sec-Fetch-Mode", "If-None-Match", "X-Accel-Redirect", "X-PSC-Reference", "X-PSC-Assertion", "X-Envoy-Auth-Headers-To-Remove"],
)  # fmt: skip
def test_own_name_that_cannot_be(name: str) -> None:
    """Names that proxies drop, that HTTP or a proxy acts on, or that are no names, are refused with a sentence."""
    with pytest.raises(ValueError, match=r"cannot be a header name|is too long|means something"):
        HeaderPlan(own={"subject": name})


@pytest.mark.parametrize(
    "name", ["X-User", "Remote-User", "REMOTEUSER", "x-psc-subject", "X-Auth-Request-User", "Hosts", "X-Content"]
)
def test_own_name_that_can(name: str) -> None:
    """Ordinary names are accepted as they are written, also the field's own in another case."""
    assert name == HeaderPlan(own={"subject": name}).names[0]


@pytest.mark.parametrize(
    ("profile", "own"),
    [
        ("psc", {"subject": "X-User", "account": "x-user"}),
        ("psc", {"account": "X-PSC-SUBJECT"}),
        ("authelia", {"account": "remote-user"}),
        ("mod_auth_openidc", {"account": "X-Remote-User"}),
    ],
)
def test_two_headers_of_one_name(profile: str, own: dict[str, str]) -> None:
    """Two headers whose names differ by case alone are one header, and refused."""
    with pytest.raises(ValueError, match="two headers would be called"):
        HeaderPlan(profile, own=own)


@pytest.mark.parametrize(
    ("profile", "encoding", "own"),
    [
        ("keycloak", "percent", {}),
        ("psc", "latin1", {}),
        ("psc", "percent", {"shoe_size": "X-Shoe"}),
        ("psc", "percent", {"mode": "X-M"}),
    ],
)
def test_unknown_choices(profile: str, encoding: str, own: dict[str, str]) -> None:
    """An unknown profile, encoding or field is refused and the known ones are named."""
    with pytest.raises(ValueError, match="there are "):
        HeaderPlan(profile, encoding, own)
    with pytest.raises(ValueError, match="there are percent, utf8, rfc2047, ascii"):
        encode("x", "latin1")


def test_swapped_names() -> None:
    """Two fields may exchange their names: only the outcome counts."""
    own = {"subject": "X-PSC-Account", "account": "X-PSC-Subject"}
    assert "imartel" == dict(HeaderPlan(own=own).values(IDENTITY, None, "imartel"))["X-PSC-Subject"]


@pytest.mark.parametrize("profile", PROFILES)
def test_names_of_profiles(profile: str) -> None:
    """No profile has a name that nginx drops or that occurs twice."""
    names = HeaderPlan(profile).names
    assert all(re.fullmatch(r"[A-Za-z]+(-[A-Za-z]+)*", name) for name in names)
    assert len(names) == len({name.lower() for name in names})


def test_HDR_02_HDR_03_aliases() -> None:
    """Every spelling that CGI, WSGI and servlets take for ours is listed, mixed ones too, and never ours itself."""
    aliases = HeaderPlan().aliases()
    assert {"X_PSC_Subject", "X-PSC_Subject", "X_PSC-Subject", "X.PSC.Subject", "X_PSC.Subject", "X.PSC-Subject"} <= {
        *aliases
    }
    for profile in PROFILES:
        plan = HeaderPlan(profile)
        aliases = plan.aliases()
        assert len(aliases) == len(set(aliases)) == sum(3 ** name.count("-") - 1 for name in plan.names)
        ours = {name.upper() for name in plan.names}
        assert {re.sub("[_.]", "-", alias).upper() for alias in aliases} <= ours
        assert not ours & {alias.upper() for alias in aliases}


# -- encodings ---------------------------------------------------------------------------------------------------------

NASTY = "É\r\nSet-Cookie: a=b\x00\t\x7f\x85\u2028\ud800 ;,=%"


@pytest.mark.parametrize(
    ("value", "encoding", "expected"),
    [
        ("", "percent", ""),
        ("AZaz09-._~/:@", "percent", "AZaz09-._~/:@"),
        ("!\"#$%&'()*+,;<=>?[\\]^`{|} ", "percent", "%21%22%23%24%25%26%27%28%29%2A%2B%2C%3B%3C%3D%3E%3F%5B%5C%5D%5E%60%7B%7C%7D%20"),
        ("Hélène", "percent", "H%C3%A9l%C3%A8ne"),
        ("Łukasz 😀", "percent", "%C5%81ukasz%20%F0%9F%98%80"),
        (NASTY, "percent", "%C3%89Set-Cookie:%20a%3Db%20%3B%2C%3D%25"),
        (NASTY, "utf8", "ÉSet-Cookie: a=b ;,=%"),
        (NASTY, "ascii", "ESet-Cookie: a=b ;,=%"),
        (NASTY, "rfc2047", "=?UTF-8?Q?=C3=89Set-Cookie=3A_a=3Db_=3B=2C=3D=25?="),
        ("Hélène D’Œuvre", "utf8", "Hélène D’Œuvre"),
        ("  DUPONT, \"J\"  ", "utf8", "DUPONT, \"J\""),
        ("  DUPONT, \"J\"  ", "rfc2047", "DUPONT, \"J\""),
        ("  DUPONT, \"J\"  ", "ascii", "DUPONT, \"J\""),
        ("Hélène D'Œuvre", "rfc2047", "=?UTF-8?Q?H=C3=A9l=C3=A8ne_D=27=C5=92uvre?="),
        ("=?UTF-8?Q?=0D=0A?=", "rfc2047", "=?UTF-8?Q?=3D=3FUTF-8=3FQ=3F=3D0D=3D0A=3F=3D?="),
        ("Hélène D’Œuvre", "ascii", "Helene D'OEuvre"),
        ("Łukasz Ångström ß ﬁ №", "ascii", "Lukasz Angstrom ss fi No"),
        ("e\u0301 a\u200db", "ascii", "e ab"),
        ("«Ω» 李", "ascii", "\"?\" ?"),
        ("x" * 600, "percent", "x" * 512),
        ("x" + "é" * 300, "utf8", "x" + "é" * 255),
        ("😀" * 200, "percent", "%F0%9F%98%80" * 128),
    ],
)  # fmt: skip
def test_HDR_10_encodings(value: str, encoding: str, expected: str) -> None:
    """Each encoding says what it says, drops controls, and cuts at 512 bytes between characters."""
    assert expected == encode(value, encoding)


@pytest.mark.parametrize("encoding", ["ascii", "utf8", "rfc2047", "percent"])
@pytest.mark.parametrize("account", ["ad\x00min", " admin", "admin ", "admin\n", "admin\u2028", "a" * 513, "a\ud800"])
def test_identifier_is_whole_or_absent(account: str, encoding: str) -> None:
    """An account that would arrive cut or mended, as another account, does not arrive; nor does the id take its place."""
    assert "" == dict(HeaderPlan("psc", encoding).values(IDENTITY, SITUATION, account))["X-PSC-Account"]
    assert "" == dict(HeaderPlan("authelia", encoding).values(IDENTITY, SITUATION, account))["Remote-User"]


@pytest.mark.parametrize(("encoding", "expected"), [("ascii", ""), ("utf8", "hélène"), ("percent", "h%C3%A9l%C3%A8ne")])
def test_account_with_accents(encoding: str, expected: str) -> None:
    """«hélène» is not transliterated into the account «helene» of somebody else."""
    assert expected == dict(HeaderPlan("psc", encoding).values(IDENTITY, None, "hélène"))["X-PSC-Account"]


# -- sizes and garbage -------------------------------------------------------------------------------------------------

LONG = "é" * 1000
LONG_SITUATION = Situation(given_name=LONG, family_name=LONG, structure_name=LONG, profession="10")


def test_what_is_emptied_first() -> None:
    """Too long together: the name of the structure goes first, then the family name; what identifies stays."""
    identity = replace(IDENTITY, auth_mode="x" * 64)
    found = dict(HeaderPlan().values(identity, LONG_SITUATION, "imartel"))
    assert ("", "%C3%A9" * 256, "%C3%A9" * 256) == (
        found["X-PSC-Structure-Name"],
        found["X-PSC-Given-Name"],
        found["X-PSC-Family-Name"],
    )
    assert ("10", "imartel") == (found["X-PSC-Profession"], found["X-PSC-Account"])
    found = dict(HeaderPlan().values(identity, LONG_SITUATION, "é" * 200))
    assert ("", "") == (found["X-PSC-Structure-Name"], found["X-PSC-Family-Name"])
    assert ("%C3%A9" * 256, "%C3%A9" * 200) == (found["X-PSC-Given-Name"], found["X-PSC-Account"])


def test_budget_to_the_byte() -> None:
    """All values together come to 3500 bytes and not to one more."""
    totals = set()
    for length in range(300, 513):
        situation = Situation(given_name=LONG, family_name=LONG, structure_name="x" * length)
        totals.add(sum(len(value) for _, value in HeaderPlan().values(IDENTITY, situation)))
    assert VALUES_BYTES == max(totals)


def test_every_long_field_can_be_emptied() -> None:
    """No field of a profile escapes the list of what is emptied, save the two that are short by nature."""
    fields = {field for rows in PROFILES.values() for _, field in rows} - {"rpps", "auth_time", "email"}
    assert fields == {*EMPTIED_FIRST}
    assert len(EMPTIED_FIRST) == len(fields)


def test_budget_under_long_own_names() -> None:
    """Long own names take from the room of the values: what nginx reads is the whole block."""
    own = {field: f"X-{number:02}-{'n' * 59}" for number, field in enumerate(FIELDS)}
    worst = Identity(issuer=LONG, sub="%" * 255, subject="%" * 255, acr="%" * 64, auth_mode="%" * 64, auth_time=1)
    for profile in PROFILES:
        block = HeaderPlan(profile, own=own).render(worst, LONG_SITUATION, "%" * 512)
        assert len(block) <= BLOCK_BYTES
    assert len(HeaderPlan(own=own).render(IDENTITY, LONG_SITUATION)) <= BLOCK_BYTES


ANY = st.text(st.characters(), max_size=40) | st.sampled_from(
    [NASTY, LONG, "%" * 255, "\r\n\r\n", "a\nb", " x ", "=?UTF-8?B?DQo=?="]
)
ANY_SITUATION = st.builds(Situation, **{name: ANY for name in Situation.__slots__ if name != "structures"})
ANY_IDENTITY = st.builds(
    Identity,
    **dict.fromkeys(("issuer", "sub", "subject", "given_name", "family_name", "civility", "acr", "auth_mode"), ANY),
    auth_time=st.integers(),
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*PROFILES]), st.sampled_from(ENCODINGS), ANY_IDENTITY, st.none() | ANY_SITUATION, ANY)
def test_HDR_10_whatever_comes_in(
    profile: str, encoding: str, identity: Identity, situation: Situation | None, account: str
) -> None:
    """Whatever an identity holds, the block is one line per name in order, has no control, and stays within its sizes."""
    plan = HeaderPlan(profile, encoding)
    block = plan.render(identity, situation, account)
    found = lines(block)
    assert plan.names == tuple(found)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029]", "".join(found.values()))
    assert sum(len(value.encode()) for value in found.values()) <= VALUES_BYTES
    assert len(block) <= BLOCK_BYTES
    assert all(value == value.strip(" ") for value in found.values())
    if encoding != "utf8":
        assert block.isascii()


@settings(max_examples=200, deadline=None)
@given(ANY, st.sampled_from(ENCODINGS))
def test_encodings_can_be_undone(value: str, encoding: str) -> None:
    """percent, utf8 and rfc2047 give back the cleaned value; ascii keeps printable ASCII as it is."""
    kept = (
        re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", "", value).encode()[:TEXT_BYTES].decode(errors="ignore")
    )
    made = encode(value, encoding)
    match encoding:
        case "percent":
            assert kept == unquote(made, errors="strict")
            assert re.fullmatch(r"(?:[A-Za-z0-9._~/:@-]|%[0-9A-F]{2})*", made)
        case "utf8":
            assert kept.strip(" ") == made
        case "rfc2047":
            parts = decode_header(made)
            text = "".join(p if isinstance(p, str) else p.decode(charset or "ascii") for p, charset in parts)
            assert kept.strip(" ") == text.strip(" ")
            assert made.isascii()
            assert made == kept.strip(" ") or all(len(word) <= 75 for word in made.split(" "))
        case "ascii":
            assert made.isascii()
            assert not kept.isascii() or kept.strip(" ") == made
