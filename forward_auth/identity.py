"""Who PSC says this is: one Identity and its situations, read from the claims of the ID token and of userinfo.

Tolerant of the shapes PSC really sends: 0, 1 or many exercices and activities, no `SubjectRefPro` at all, empty strings, null,
an object where a list is expected, `codeCivilite` inside or beside, `otherIds` spelt two ways. Whatever is not understood is
unknown, and unknown is the empty string.

Refuses (IdentityError): a person whose national id or `sub` is missing, malformed or said differently by userinfo and ID token.
Refuses to guess: a code that is not a plain string is unknown, never repaired into one that a rule could match (RULE-03); a
profession is read from the exercice and from nowhere else; `acr` is read from the ID token alone; no national id is checked by
its Luhn key, since test ids and some real ones fail it.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any, Final

from forward_auth.errors import Fault, ForwardAuthError

TEXT_BYTES: Final = 512  # the longest text kept of any claim, in bytes of UTF-8
SUBJECT_CHARACTERS: Final = 255  # OIDC Core 1.0 §2 for `sub`; real national ids stay below 40
CODE_CHARACTERS: Final = 64  # the longest real code or structure id has about 20
SITUATIONS: Final = 64  # more are dropped: the login has to fit in memory
OTHER_IDS: Final = 16

# What IdentityError.code may be: pages and metrics look these up.
ERROR_CODES: Final = ("no_subject", "bad_subject", "subject_differs", "no_sub", "sub_differs", "unbound", "bad_record")

# Controls (C0, DEL, C1), the two line separators that str.splitlines obeys, and lone surrogates, which no UTF-8 can hold.
_UNWANTED: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CODE: Final = re.compile(rf"[!-~]{{1,{CODE_CHARACTERS}}}")
# Printable ASCII: two ids that look the same are the same. A space may stand inside an internal id (5…/…), not around it.
_ID: Final = re.compile(rf"[!-~](?:[ -~]{{0,{SUBJECT_CHARACTERS - 2}}}[!-~])?")
_RPPS: Final = re.compile(r"8([0-9]{11})")
_SECTOR: Final = re.compile(
    r"([!-\]_-~]+)\^1\.2\.250\.1\.71\.4\.2\.4"
)  # `Secteur_Activite`: a code of TRE_R02, ^, its OID
_LATEST: Final = 1 << 40  # Unix seconds; a time beyond it is no time (TOK-13: 1e300)

# Every id of a structure, the technical one first: it is the one most often filled. The odd spelling is PSC's.
_TECHNICAL: Final = "identifiantTechniqueDeLaStructure"
_STRUCTURE_IDS: Final = (
    _TECHNICAL,
    "numeroFinessSite",
    "numeroFinessetablissementJuridique",
    "numeroSiretSite",
    "numeroSirenSite",
    "ancienIdentifiantDeLaStructure",
)


class IdentityError(ForwardAuthError):
    """These claims do not say who it is. `code` is one of ERROR_CODES; `detail` names the claim, never its value."""

    fault = Fault.PSC


@dataclass(frozen=True, slots=True)
class Situation:
    """One «situation d'exercice»: an exercice and one of its activities. Codes of the NOS; unknown is "".

    `structure` is the technical id, `structures` every id PSC gives of that structure. `given_name` and `family_name` are those
    of exercise, the civil ones where PSC gives none."""

    profession: str = ""
    category: str = ""
    role: str = ""
    speciality: str = ""
    speciality_type: str = ""
    sector: str = ""
    mode: str = ""
    activity_kind: str = ""
    pharmacist_section: str = ""
    structure: str = ""
    structure_name: str = ""
    structures: tuple[str, ...] = ()
    given_name: str = ""
    family_name: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """One person as PSC authenticated them. The key is (`issuer`, `subject`), compared byte for byte (RULE-04); `sub` is
    technical and changed its form in 2026. `other_ids` are pairs (origin, id). `auth_time` is in Unix seconds, 0 when PSC did
    not say."""

    issuer: str
    sub: str
    subject: str
    given_name: str = ""
    family_name: str = ""
    civility: str = ""
    situations: tuple[Situation, ...] = ()
    acr: str = ""
    auth_mode: str = ""
    auth_time: int = 0
    other_ids: tuple[tuple[str, str], ...] = ()

    @property
    def rpps(self) -> str:
        """The 11 digits when the national id is `8` + 11 digits, else ""."""
        found = _RPPS.fullmatch(self.subject)
        return found[1] if found else ""


def read_identity(
    userinfo: Mapping[str, object],
    id_claims: Mapping[str, object],
    *,
    issuer: str,
    subject_claim: str = "SubjectNameID",
) -> Identity:
    """The Identity these claims state. Raises IdentityError with a code of ERROR_CODES, and nothing else, whatever they hold.

    `id_claims` are those of a verified ID token; `userinfo` may be empty (`psc.userinfo = false`), then everything is read from
    the ID token. A userinfo that is not empty must be bound to the ID token by the same `sub` or the same national id
    (OIDC Core 1.0 §5.3.2), and neither may differ. `auth_time` stays 0 when the ID token has none: `iat` says when a token was
    made, which single sign-on puts long after the person proved anything, so it must not satisfy a `max_age`.

    No `SubjectRefPro`, or one without `exercices`: PSC still states sector and structure in top-level claims (those of the
    first activity), and employees of a structure, secretaries above all, often have nothing else. One situation is made of
    these two, so that a rule by structure can let them in. It has no profession and no role: the table behind the OID in
    `SubjectRole` is not published, and a profession is never guessed. Where `exercices` is there, even empty, it alone is
    believed."""
    sub = _optional_id(id_claims.get("sub"), "sub of the ID token")
    if not sub:
        raise IdentityError("no_sub", "the ID token has no sub")
    subject = _subject(userinfo, id_claims, subject_claim, sub)
    sources = (userinfo, id_claims)
    given, family = _text_in(sources, "given_name"), _text_in(sources, "family_name")
    references = [found for source in sources for found in _objects(source.get("SubjectRefPro"))]
    return Identity(
        issuer=issuer,
        sub=sub,
        subject=subject,
        given_name=given,
        family_name=family,
        civility=_code_in((*references, *sources), "codeCivilite"),  # inside SubjectRefPro before 2023, beside it since
        situations=_situations(references, sources, given, family),
        acr=_code(id_claims.get("acr")),
        auth_mode=_code_in((id_claims, userinfo), "authMode"),  # the signed one first: rules may ask for it
        auth_time=_seconds(id_claims.get("auth_time")),
        other_ids=tuple(islice(_other_ids(sources), OTHER_IDS)),
    )


def clean(value: object, limit: int = TEXT_BYTES) -> str:
    """`value` as a text of one line: "" unless it is a str; controls dropped; at most `limit` bytes of UTF-8."""
    return cut(_UNWANTED.sub("", value), limit) if isinstance(value, str) else ""


def cut(text: str, limit: int = TEXT_BYTES) -> str:
    """The longest beginning of `text` that has at most `limit` bytes of UTF-8. `text` holds no lone surrogate."""
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[:limit].decode(errors="ignore")


def to_record(identity: Identity) -> dict[str, object]:
    """`identity` as a JSON-able dict, without its empty fields (records are sealed and stored by the thousand)."""
    record = _filled(identity)
    if identity.situations:
        record["situations"] = [_filled(situation) for situation in identity.situations]
    return record


def from_record(record: dict[str, object]) -> Identity:
    """The Identity that `to_record` wrote, also after a journey through JSON. Unknown members are ignored and missing ones are
    empty, so that two versions can share a store; a member of another type, or no key, raises IdentityError("bad_record")."""
    members = _typed(Identity, record)
    if not members.keys() >= {"issuer", "sub", "subject"}:
        raise _bad_record()
    return Identity(**members)


# -- who it is: strict -------------------------------------------------------------------------------------------------


def _subject(userinfo: Mapping[str, object], id_claims: Mapping[str, object], claim: str, sub: str) -> str:
    """The national id, once userinfo is known to be about the person of the ID token."""
    here = _optional_id(userinfo.get(claim), f"{claim} of userinfo")
    there = _optional_id(id_claims.get(claim), f"{claim} of the ID token")
    if not (here or there):
        raise IdentityError("no_subject", f"neither userinfo nor ID token has {claim}")
    if here and there and here != there:
        raise IdentityError("subject_differs", f"userinfo and ID token name two persons in {claim}")
    said = _optional_id(userinfo.get("sub"), "sub of userinfo")
    if said and said != sub:
        raise IdentityError("sub_differs", "userinfo is about another sub than the ID token")
    if userinfo and not said and not (here and there):
        raise IdentityError("unbound", f"userinfo has no sub, and only one of userinfo and ID token has {claim}")
    return here or there


def _optional_id(value: object, name: str) -> str:
    """The id, unchanged, or "" when PSC says none (absent, null, empty). Anything that is there and no id is refused."""
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        problem = f"{name} is not a string of 1 to {SUBJECT_CHARACTERS} printable ASCII characters"
        raise IdentityError("bad_subject", problem)
    return value


# -- what is known of them: tolerant -----------------------------------------------------------------------------------


def _situations(
    references: list[Mapping[str, object]], sources: tuple[Mapping[str, object], ...], given: str, family: str
) -> tuple[Situation, ...]:
    """At most SITUATIONS, in PSC's order, without those that say nothing."""
    detailed = any("exercices" in reference for reference in references)
    read = _from_exercices(references) if detailed else _from_top_level(sources)
    nothing = Situation()
    found = list(islice((one for one in read if one != nothing), SITUATIONS))
    if (
        len(found) == 1 and not found[0].activity_kind
    ):  # since 2023 PSC may state it beside, of no situation in particular
        found[0] = replace(found[0], activity_kind=_code_in((*references, *sources), "codeGenreActivite"))
    return tuple(
        replace(one, given_name=one.given_name or given, family_name=one.family_name or family) for one in found
    )


def _from_exercices(references: list[Mapping[str, object]]) -> Iterator[Situation]:
    """One per (exercice, activity); an exercice without activities gives one."""
    for reference in references:
        for exercice in _objects(reference.get("exercices")):
            for activity in _objects(exercice.get("activities")) or [{}]:
                ids = (_code(activity.get(name)) for name in _STRUCTURE_IDS)
                yield Situation(
                    profession=_code(exercice.get("codeProfession")),
                    category=_code(exercice.get("codeCategorieProfessionnelle")),
                    role=_code(activity.get("codeRole")),
                    speciality=_code(exercice.get("codeSavoirFaire")),
                    speciality_type=_code(exercice.get("codeTypeSavoirFaire")),
                    sector=_code(activity.get("codeSecteurDactivite")),
                    mode=_code(activity.get("codeModeExercice")),
                    activity_kind=_code(activity.get("codeGenreActivite")),
                    pharmacist_section=_code(activity.get("codeSectionPharmacien")),
                    structure=_code(activity.get(_TECHNICAL)),
                    structure_name=_text_in((activity,), "raisonSocialeSite")
                    or _text_in((activity,), "enseigneCommercialeSite"),
                    structures=tuple(dict.fromkeys(filter(None, ids))),
                    given_name=_text_in((exercice,), "prenomDexercice"),
                    family_name=_text_in((exercice,), "nomDexercice"),
                )


def _from_top_level(sources: tuple[Mapping[str, object], ...]) -> Iterator[Situation]:
    """What PSC says of the first activity beside SubjectRefPro; no profession (see read_identity)."""
    sector = _SECTOR.fullmatch(_code_in(sources, "Secteur_Activite"))
    structure = _code_in(sources, "SubjectOrganizationID")
    yield Situation(
        sector=sys.intern(sector[1]) if sector else "",
        structure=structure,
        structure_name=_text_in(sources, "SubjectOrganization"),
        structures=(structure,) if structure else (),
    )


def _other_ids(sources: tuple[Mapping[str, object], ...]) -> Iterator[tuple[str, str]]:
    for source in sources:
        for name in ("otherIds", "otherIDs"):
            for one in _objects(source.get(name)):
                if identifier := clean(one.get("identifiant")):
                    yield clean(one.get("origine")), identifier


def _objects(value: object) -> list[Mapping[str, object]]:
    """The JSON objects of a list, or the one that stands where a list was expected; anything else is passed over."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _text_in(sources: tuple[Mapping[str, object], ...], name: str) -> str:
    return next(filter(None, (clean(source.get(name)) for source in sources)), "")


def _code_in(sources: tuple[Mapping[str, object], ...], name: str) -> str:
    return next(filter(None, (_code(source.get(name)) for source in sources)), "")


def _code(value: object) -> str:
    """A code as it was sent, or "". Never mended: dropping a control or cutting could make a malformed code one that opens a
    door. Interned: thousands of logins share a few hundred codes."""
    return sys.intern(value) if type(value) is str and _CODE.fullmatch(value) else ""


def _seconds(value: object) -> int:
    """Unix seconds, or 0. A fraction is dropped (older is stricter)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return int(value) if 0 < value <= _LATEST else 0  # also false for NaN and the infinities, which json lets through


# -- records -----------------------------------------------------------------------------------------------------------


def _filled(one: Identity | Situation) -> dict[str, object]:
    return {field.name: value for field in fields(one) if (value := getattr(one, field.name))}


def _typed(shape: type[Identity | Situation], record: object) -> dict[str, Any]:
    """The members of `record` that are fields of `shape`, each of its type."""
    if not isinstance(record, dict):
        raise _bad_record()
    readers = _READERS[shape]
    found: dict[str, Any] = {}
    for name, value in record.items():
        reader = readers.get(name)
        if reader is None:
            continue
        if type(value) is reader:
            found[name] = value
        elif isinstance(reader, type):
            raise _bad_record()
        else:
            found[name] = reader(value)
    return found


def _strings(value: object) -> tuple[str, ...]:
    found = tuple(_list(value))
    if not all(isinstance(one, str) for one in found):
        raise _bad_record()
    return found


def _list(value: object) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise _bad_record()
    return list(value)


def _bad_record() -> IdentityError:
    return IdentityError("bad_record", "a stored identity has another shape than this version writes")


def _read_situations(value: object) -> tuple[Situation, ...]:
    return tuple([Situation(**_typed(Situation, one)) for one in _list(value)])


def _read_pairs(value: object) -> tuple[tuple[str, str], ...]:
    pairs = [_strings(pair) for pair in _list(value)]
    if any(len(pair) != 2 for pair in pairs):
        raise _bad_record()
    return tuple((pair[0], pair[1]) for pair in pairs)


# Each field's type, or what reads it.
_READERS: Final[Mapping[type[Identity | Situation], Mapping[str, Any]]] = {
    Identity: {field.name: field.type for field in fields(Identity)}
    | {"situations": _read_situations, "other_ids": _read_pairs},
    Situation: {field.name: field.type for field in fields(Situation)} | {"structures": _strings},
}
