"""Everything the simulator can do wrong on command: one table, `FAULTS`: name -> (endpoint, what it does, …).

For: tests of a client. A name is `place.what`: `id_token.nonce_wrong`, `token.hang`, `jwks.empty`. Several can be on at once;
each can carry a value (a number of seconds, a URL, members to merge) and a number of times after which it goes off by itself.
`expect` says what a correct client does with it: `refuse`, `accept`, or "" where it depends. Refuses: a name that is not in
the table (a misspelt fault would make a test green for nothing).

Places: `id_token`, `refresh_id_token` (only the one of a refresh), `access_token`, `logout_token` share the table of token
faults; `discovery`, `jwks`, `token` (any grant), `code`, `refresh`, `poll` (one grant each), `userinfo`, `introspect`, `revoke`,
`ciba`, `end_session`, `authorize` share the transport faults, `all` stands for every one of them; some have faults of their own.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from .jose import Raw, b64u
from .token_faults import OTHER_HOST, TOKEN_FAULTS, merge


class Fault(NamedTuple):
    """One line of the table. `value`: what is used when none is given."""

    endpoint: str
    does: str
    expect: str = "refuse"
    value: object = None
    act: Callable[..., object] | None = None


# ------------------------------------------------------------------------------------------------ tokens


def _set(**members: object) -> Callable[[dict[str, Any], Any], object]:
    return lambda d, v: d.update(members)


def _value(name: str) -> Callable[[dict[str, Any], Any], object]:
    return lambda d, v: d.update({name: v})


def _drop(name: str) -> Callable[[dict[str, Any], Any], object]:
    return lambda d, v: d.pop(name, None)


def _document(d: dict[str, Any], v: Any) -> None:
    merge(d, v)


def _replace_all(d: dict[str, Any], v: Any) -> None:
    d.clear()
    d.update(v)


def _moved(d: dict[str, Any], v: Any) -> None:
    """Every endpoint on another host, reached without TLS."""
    for name, address in d.items():
        if name.endswith("_endpoint") or name == "jwks_uri":
            d[name] = f"http://{v}/" + str(address).split("://", 1)[1].split("/", 1)[1]


_Act = Callable[[dict[str, Any], Any], object]
_JSON: Final[dict[str, dict[str, tuple[str, str, object, _Act]]]] = {
    "discovery": {
        "issuer_other": (
            "issuer is another (value)",
            "refuse",
            f"https://{OTHER_HOST}/auth/realms/esante-wallet",
            _value("issuer"),
        ),
        "issuer_slash": (
            "issuer with a trailing slash",
            "refuse",
            None,
            lambda d, v: d.update(issuer=d["issuer"] + "/"),
        ),
        "issuer_missing": ("no issuer", "refuse", None, _drop("issuer")),
        "token_endpoint_other_host": (
            "token endpoint at value",
            "refuse",
            f"https://{OTHER_HOST}/token",
            _value("token_endpoint"),
        ),
        "token_endpoint_http": (
            "token endpoint without TLS",
            "refuse",
            "http://auth.psc.example/token",
            _value("token_endpoint"),
        ),
        "authorization_endpoint_http": (
            "authorization endpoint without TLS",
            "refuse",
            "http://wallet.psc.example/auth",
            _value("authorization_endpoint"),
        ),
        "userinfo_endpoint_other_host": (
            "userinfo at value",
            "refuse",
            f"https://{OTHER_HOST}/userinfo",
            _value("userinfo_endpoint"),
        ),
        "jwks_uri_other_host": ("keys at value", "refuse", f"https://{OTHER_HOST}/jwks", _value("jwks_uri")),
        "jwks_uri_file": ("keys in a file", "refuse", "file:///etc/passwd", _value("jwks_uri")),
        "jwks_uri_metadata": (
            "keys at a cloud's metadata address",
            "refuse",
            "http://169.254.169.254/jwks",
            _value("jwks_uri"),
        ),
        "endpoints_http": ("every endpoint without TLS on another host (value)", "refuse", "auth.psc.example", _moved),
        "endpoint_not_a_string": (
            "token_endpoint is a list",
            "refuse",
            None,
            lambda d, v: d.update(token_endpoint=[d["token_endpoint"]]),
        ),
        "no_token_endpoint": ("no token endpoint", "refuse", None, _drop("token_endpoint")),
        "no_jwks_uri": ("no jwks_uri", "refuse", None, _drop("jwks_uri")),
        "no_authorization_endpoint": ("no authorization endpoint", "refuse", None, _drop("authorization_endpoint")),
        "no_userinfo_endpoint": ("no userinfo endpoint", "", None, _drop("userinfo_endpoint")),
        "no_end_session_endpoint": ("no end_session endpoint", "accept", None, _drop("end_session_endpoint")),
        "iss_not_advertised": (
            "does not promise iss in the callback",
            "accept",
            None,
            _set(authorization_response_iss_parameter_supported=False),
        ),
        "document": ("the members of value replace members; null removes one", "", {}, _document),
    },
    "jwks": {
        "empty": ("no key at all", "refuse", None, _set(keys=[])),
        "not_a_list": ("keys is an object", "refuse", None, lambda d, v: d.update(keys={"0": d["keys"][0]})),
        "no_keys_member": ("no member keys", "refuse", None, _drop("keys")),
        "key_not_an_object": (
            "a string and a null among the keys",
            "accept",
            None,
            lambda d, v: d["keys"].extend(["key", None]),
        ),
        "one_bad": (
            "keys that cannot be read beside the good one",
            "accept",
            None,
            lambda d, v: d.update(
                keys=[
                    {"kty": "RSA", "kid": "bad-1", "use": "sig", "alg": "RS256", "n": "!!!", "e": "AQAB"},
                    {"kty": "XYZ", "kid": "bad-2"},
                    {"kid": "bad-3"},
                    *d["keys"],
                    {"kty": "RSA", "kid": "bad-4", "n": 5, "e": None},
                ]
            ),
        ),
        "oct_only": (
            "a symmetric key instead, under the good kid",
            "refuse",
            None,
            lambda d, v: d.update(
                keys=[
                    {"kty": "oct", "kid": d["keys"][0]["kid"], "use": "sig", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldA"}
                ]
            ),
        ),
        "oct_beside": (
            "a symmetric key beside the good one",
            "accept",
            None,
            lambda d, v: d["keys"].append({"kty": "oct", "kid": "oct-1", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldA"}),
        ),
        "rsa_512": (
            "the key is an RSA key of 512 bits, under the good kid",
            "refuse",
            None,
            lambda d, v: d.update(keys=[{**d["keys"][0], "n": b64u(b"\xc1" + b"\xa5" * 62 + b"\x01")}]),
        ),
        "ec_only": ("only a P-256 key", "refuse", None, lambda d, v: d.update(keys=[v.odd("ec").jwk()])),
        "use_enc": (
            "the key says use: enc",
            "refuse",
            None,
            lambda d, v: d.update(keys=[{**key, "use": "enc"} for key in d["keys"]]),
        ),
        "alg_other": (
            "the key says alg: PS256",
            "refuse",
            None,
            lambda d, v: d.update(keys=[{**key, "alg": "PS256"} for key in d["keys"]]),
        ),
        "alg_use_missing": (
            "the key says neither alg nor use",
            "accept",
            None,
            lambda d, v: d.update(keys=[{name: key[name] for name in ("kty", "kid", "n", "e")} for key in d["keys"]]),
        ),
        "kid_missing": (
            "no key has a kid",
            "",
            None,
            lambda d, v: d.update(
                keys=[{name: part for name, part in key.items() if name != "kid"} for key in d["keys"]]
            ),
        ),
        "private": (
            "the private numbers are published too",
            "",
            None,
            lambda d, v: d["keys"][0].update(v.current.private_numbers()),
        ),
        "second_key": (
            "a second good key beside",
            "accept",
            None,
            lambda d, v: d["keys"].append(v.odd("second").jwk()),
        ),
        "encryption_key": (
            "an encryption key first, as a real Keycloak has",
            "accept",
            None,
            lambda d, v: d["keys"].insert(0, {**v.odd("second").jwk(), "use": "enc", "alg": "RSA-OAEP"}),
        ),
        "same_kid_twice": (
            "another key under the same kid, first",
            "",
            None,
            lambda d, v: d["keys"].insert(0, {**v.odd("second").jwk(), "kid": d["keys"][0]["kid"]}),
        ),
        "without_current": (
            "the signing key is not published",
            "refuse",
            None,
            lambda d, v: d.update(keys=[key for key in d["keys"] if key["kid"] != v.current.kid]),
        ),
        "ten_thousand": (
            "10 000 keys after the good one",
            "",
            None,
            lambda d, v: d["keys"].extend({**d["keys"][0], "kid": f"key-{i}"} for i in range(10000)),
        ),
        "document": ("value is the whole document", "", {"keys": []}, lambda d, v: _replace_all(d, v)),
    },
    "token": {
        "token_type_mac": ("token_type is mac", "refuse", "mac", _value("token_type")),
        "token_type_upper": ("token_type is BEARER", "accept", "BEARER", _value("token_type")),
        "token_type_missing": ("no token_type", "refuse", None, _drop("token_type")),
        "token_type_list": ("token_type in a list", "refuse", None, _set(token_type=["Bearer"])),
        "expires_in_missing": ("no expires_in", "accept", None, _drop("expires_in")),
        "expires_in_negative": ("expires_in is -1", "refuse", None, _set(expires_in=-1)),
        "expires_in_string": ("expires_in is a string", "refuse", None, _set(expires_in="120")),
        "expires_in_text": ("expires_in is a word", "refuse", None, _set(expires_in="soon")),
        "expires_in_huge": ("expires_in is 2^63", "", None, _set(expires_in=2**63)),
        "id_token_missing": ("no ID token", "refuse", None, _drop("id_token")),
        "id_token_empty": ("the ID token is empty", "refuse", None, _set(id_token="")),
        "id_token_list": (
            "the ID token is a list",
            "refuse",
            None,
            lambda d, v: d.update(id_token=[d.get("id_token")]),
        ),
        "access_token_missing": ("no access token", "refuse", None, _drop("access_token")),
        "access_token_number": ("the access token is a number", "refuse", None, _set(access_token=7)),
        "access_token_crlf": ("the access token holds CR LF", "refuse", "abc\r\nX-Evil: 1", _value("access_token")),
        "refresh_token_missing": ("no refresh token", "", None, _drop("refresh_token")),
        "refresh_token_number": ("the refresh token is a number", "", None, _set(refresh_token=7)),
        "refresh_expires_in_missing": ("no refresh_expires_in", "accept", None, _drop("refresh_expires_in")),
        "session_state_missing": ("no session_state", "accept", None, _drop("session_state")),
        "scope_missing": ("no scope", "accept", None, _drop("scope")),
        "scope_less": ("scope without scope_all", "", None, _set(scope="openid")),
        "error_in_200": (
            "200 with an error beside the tokens",
            "refuse",
            None,
            _set(error="server_error", error_description="Unexpected error"),
        ),
        "document": ("the members of value replace members; null removes one", "", {}, _document),
    },
    "userinfo": {
        "sub_other": ("sub is somebody else's", "refuse", "7c0e4a10-0000-4000-8000-00000000beef", _value("sub")),
        "sub_missing": ("no sub", "refuse", None, _drop("sub")),
        "sub_number": ("sub is a number", "refuse", None, _set(sub=42)),
        "subject_other": ("SubjectNameID is somebody else's", "refuse", "899700999999", _value("SubjectNameID")),
        "subject_missing": ("no SubjectNameID", "refuse", None, _drop("SubjectNameID")),
        "subject_empty": ("SubjectNameID is empty", "refuse", None, _set(SubjectNameID="")),
        "subject_number": ("SubjectNameID is a number", "refuse", None, _set(SubjectNameID=899700000001)),
        "subject_list": (
            "SubjectNameID in a list",
            "refuse",
            None,
            lambda d, v: d.update(SubjectNameID=[d.get("SubjectNameID")]),
        ),
        "no_ref_pro": ("no SubjectRefPro", "accept", None, _drop("SubjectRefPro")),
        "ref_pro_null": ("SubjectRefPro is null", "accept", None, _set(SubjectRefPro=None)),
        "ref_pro_list": (
            "SubjectRefPro is a list",
            "",
            None,
            lambda d, v: d.update(SubjectRefPro=[d.get("SubjectRefPro")]),
        ),
        "exercices_null": ("exercices is null", "accept", None, _set(SubjectRefPro={"exercices": None})),
        "exercices_string": ("exercices is a string", "", None, _set(SubjectRefPro={"exercices": "10"})),
        "exercices_odd": (
            "numbers, nulls, lists and strings where exercices and activities belong",
            "",
            None,
            _set(
                SubjectRefPro={
                    "exercices": [
                        None,
                        7,
                        "10",
                        [],
                        {"codeProfession": 10, "activities": [None, "x", {"codeRole": 313}]},
                    ]
                }
            ),
        ),
        "exercices_many": (
            "500 exercices of 20 activities",
            "",
            500,
            lambda d, v: d.update(
                SubjectRefPro={
                    "exercices": [
                        {
                            "codeProfession": "10",
                            "codeCategorieProfessionnelle": "C",
                            "activities": [{"codeSecteurDactivite": "SA01"}] * 20,
                        }
                        for _ in range(int(v))
                    ]
                }
            ),
        ),
        "unknown_codes": (
            "codes that are in no nomenclature",
            "accept",
            None,
            _set(
                SubjectRefPro={
                    "exercices": [
                        {
                            "codeProfession": "998",
                            "codeCategorieProfessionnelle": "Z",
                            "codeSavoirFaire": "SM999",
                            "activities": [
                                {"codeRole": "FON-99", "codeSecteurDactivite": "SA99", "codeModeExercice": "X"}
                            ],
                        }
                    ]
                }
            ),
        ),
        "names_controls": (
            "names with CR LF NUL TAB, U+2028, emoji, right-to-left marks, comma, semicolon",
            "accept",
            None,
            _set(
                given_name="A\r\nX-PSC-Subject: 899700999999\r\n\0\tB",
                family_name=" \u2028É\U0001f469\u200d\u2695\ufe0f\u202eRTL,;=\x7f ",
            ),
        ),
        "name_surrogate": ("a name with a lone surrogate", "", None, _set(family_name=Raw('"DU\\ud800PONT"'))),
        "name_long": ("a name of value characters", "", 10240, lambda d, v: d.update(family_name="É" * int(v))),
        "names_not_strings": ("names are numbers and lists", "", None, _set(given_name=7, family_name=["DUPONT"])),
        "nulls": (
            "every claim but sub and SubjectNameID is null",
            "accept",
            None,
            lambda d, v: d.update({k: None for k in d if k not in ("sub", "SubjectNameID")}),
        ),
        "document": ("the members of value replace members; null removes one", "", {}, _document),
    },
    "ciba": {
        "auth_req_id_missing": ("no auth_req_id", "refuse", None, _drop("auth_req_id")),
        "expires_in_missing": ("no expires_in", "refuse", None, _drop("expires_in")),
        "interval_missing": ("no interval (5 s then)", "accept", None, _drop("interval")),
        "interval_long": ("interval is value seconds", "accept", 5, _value("interval")),
        "document": ("the members of value replace members; null removes one", "", {}, _document),
    },
    "introspect": {
        "inactive": ("says the token is not active", "", None, lambda d, v: _replace_all(d, {"active": False})),
        "document": ("the members of value replace members; null removes one", "", {}, _document),
    },
}

# ------------------------------------------------------------------------------------------------ callback

Pairs = list[tuple[str, str]]


def _replace(name: str, value: str | None) -> Callable[[Pairs, Any], None]:
    """The parameter with another value; None removes it."""

    def act(pairs: Pairs, v: Any) -> None:
        where = next((i for i, pair in enumerate(pairs) if pair[0] == name), len(pairs))
        pairs[:] = [pair for pair in pairs if pair[0] != name]
        if value is not None:
            pairs.insert(where, (name, value))

    return act


def _as_value(name: str) -> Callable[[Pairs, Any], None]:
    return lambda pairs, v: _replace(name, str(v))(pairs, None)


def _twice(name: str) -> Callable[[Pairs, Any], None]:
    def act(pairs: Pairs, v: Any) -> None:
        pairs.append((name, str(v) if v is not None else dict(pairs).get(name, "")))

    return act


def _slash(pairs: Pairs, v: Any) -> None:
    _replace("iss", dict(pairs).get("iss", "") + "/")(pairs, None)


def _error(pairs: Pairs, v: Any) -> None:
    _replace("code", None)(pairs, None)
    _replace("session_state", None)(pairs, None)
    pairs.append(("error", str(v)))


_NASTY: Final = "<script>alert(1)</script>\r\nX-Evil: 1\x00 " + "é" * 10240

_CALLBACK: Final[dict[str, tuple[str, str, object, Callable[[Pairs, Any], None]]]] = {
    "error": ("an error (value) instead of a code", "refuse", "access_denied", _error),
    "error_and_code": (
        "an error (value) beside the code",
        "refuse",
        "access_denied",
        lambda p, v: p.append(("error", str(v))),
    ),
    "error_description": ("error_description is value", "refuse", _NASTY, _as_value("error_description")),
    "state_wrong": ("state is value", "refuse", "another-state", _as_value("state")),
    "state_missing": ("no state", "refuse", None, _replace("state", None)),
    "state_empty": ("state is empty", "refuse", None, _replace("state", "")),
    "state_long": ("state has 8 KiB", "refuse", None, _replace("state", "s" * 8192)),
    "code_wrong": ("code is value", "refuse", "not-a-code", _as_value("code")),
    "code_missing": ("no code", "refuse", None, _replace("code", None)),
    "code_empty": ("code is empty", "refuse", None, _replace("code", "")),
    "iss_missing": ("no iss, though discovery promises it", "refuse", None, _replace("iss", None)),
    "iss_empty": ("iss is empty", "refuse", None, _replace("iss", "")),
    "iss_wrong": ("iss is value", "refuse", f"https://{OTHER_HOST}/auth/realms/esante-wallet", _as_value("iss")),
    "iss_slash": ("iss with a trailing slash", "refuse", None, _slash),
    "session_state_missing": ("no session_state", "accept", None, _replace("session_state", None)),
    "code_twice": ("code twice (the second is value, else the same)", "refuse", None, _twice("code")),
    "state_twice": ("state twice (the second is value, else the same)", "refuse", None, _twice("state")),
    "iss_twice": ("iss twice (the second is value, else the same)", "refuse", None, _twice("iss")),
    "extra": ("an unknown parameter (value) beside", "accept", "psc_extra", lambda p, v: p.append((str(v), "1"))),
}

# ------------------------------------------------------------------------------------------------ transport, and switches

ENDPOINTS: Final = (
    "discovery",
    "jwks",
    "authorize",
    "token",
    "userinfo",
    "introspect",
    "revoke",
    "end_session",
    "ciba",
)
GRANTS: Final = ("code", "refresh", "poll")
TOKENS: Final = ("id_token", "refresh_id_token", "access_token", "logout_token")

# Done by server.py, in this order: those that replace the answer, then those that spoil the honest one.
BEFORE: Final[dict[str, tuple[str, str, object]]] = {
    "slow": ("answers honestly after value seconds", "", 30.0),
    "hang": ("does not answer until the fault is cleared", "refuse", None),
    "close": ("closes the connection without an answer", "refuse", None),
    "reset": ("resets the connection without an answer", "refuse", None),
    "status": ("answers status value", "refuse", 500),
    "error_500": ("500 with a JSON error", "refuse", None),
    "error_503": ("503 with an HTML page", "refuse", None),
    "error_404": ("404", "refuse", None),
    "error_429": ("429 with Retry-After", "refuse", None),
    "redirect": ("302 to value", "refuse", f"http://{OTHER_HOST}/"),
    "html": ("200 with an HTML maintenance page", "refuse", None),
    "huge": ("a JSON body of value bytes", "refuse", 2 * 1024**3),
    "endless": ("a body that never ends, as fast as it is read", "refuse", None),
    "gzip_bomb": ("a small gzip body that unpacks to value bytes", "refuse", 1024**3),
    "deep": ("JSON nested value deep", "refuse", 100_000),
    "not_json": ("not JSON, though it says so", "refuse", None),
    "empty_body": ("200 with an empty body", "refuse", None),
    "list": ("a JSON list", "refuse", None),
    "null": ("a JSON null", "refuse", None),
    "string": ("a JSON string", "refuse", None),
    "body": ("200, the JSON text of value", "", "{}"),
}
AFTER: Final[dict[str, tuple[str, str, object]]] = {
    "lost": ("does its work, then closes the connection without an answer", "refuse", None),
    "cut": ("half of the honest body, then closes", "refuse", None),
    "trickle": ("the honest body, one byte every value seconds", "refuse", 1.0),
    "bom": ("the honest body after a byte order mark", "", None),
    "charset": ("the honest body in UTF-16, declared as UTF-8", "refuse", None),
    "content_type": ("the honest body, declared as value", "", "text/html"),
    "duplicate_keys": ("the honest body with its first member twice", "refuse", None),
}

_SWITCHES: Final[dict[str, Fault]] = {
    "authorize.error": Fault("authorize", "returns error value at once (temporarily_unavailable, login_required …)", "refuse", "temporarily_unavailable"),
    "authorize.cancelled": Fault("authorize", "whoever picks a person is taken to have cancelled", "refuse"),
    "discovery.wallet_missing": Fault("discovery", "wallet-openid-configuration is 404; openid-configuration is there", ""),
    "discovery.plain_missing": Fault("discovery", "openid-configuration is 404; wallet-openid-configuration is there", "accept"),
    "code.pkce_ignored": Fault("code", "does not look at the code verifier (CB-11)", ""),
    "code.reusable": Fault("code", "a code can be used twice (CB-04)", ""),
    "code.other_person": Fault("code", "tokens and userinfo of the person value, with this request's nonce", "", "infirmiere-leroy"),
    "code.logout_first": Fault("code", "back-channel logout arrives before the tokens do (BCL-08)", "refuse"),
    "token.oauth_error": Fault("token", "400 with the OAuth error value", "refuse", "invalid_grant"),
    "code.oauth_error": Fault("code", "the same, code grant only", "refuse", "invalid_grant"),
    "refresh.oauth_error": Fault("refresh", "the same, refresh only", "refuse", "invalid_grant"),
    "poll.oauth_error": Fault("poll", "the same, CIBA poll only (slow_down, expired_token, access_denied …)", "refuse", "slow_down"),
    "ciba.oauth_error": Fault("ciba", "400 with the OAuth error value", "refuse", "unknown_user_id"),
    "refresh.other_person": Fault("refresh", "the renewed tokens are those of the person value", "refuse", "infirmiere-leroy"),
    "refresh.same_refresh_token": Fault("refresh", "gives the old refresh token back, still good", "accept"),
    "userinfo.unauthorized": Fault("userinfo", "401 invalid_token", "refuse"),
    "userinfo.forbidden": Fault("userinfo", "403 insufficient_scope", "refuse"),
    "userinfo.jwt": Fault("userinfo", "a signed JWT (application/jwt) instead of JSON", "refuse"),
    "userinfo.other_person": Fault("userinfo", "the userinfo of the person value", "refuse", "infirmiere-leroy"),
    "end_session.no_state": Fault("end_session", "returns without state", "accept"),
    "end_session.other_state": Fault("end_session", "returns with the state value", "accept", "another-state"),
    "end_session.ignored": Fault("end_session", "returns as if, but ends nothing", ""),
    "backchannel.silent": Fault("backchannel", "no back-channel logout is sent", ""),
    "backchannel.twice": Fault("backchannel", "each back-channel logout is sent twice", "accept"),
    "date.off": Fault("date", "the Date header of every answer is value seconds ahead", "", 300),
}  # fmt: skip


def _assemble() -> dict[str, Fault]:
    table: dict[str, Fault] = {}
    for place in TOKENS:
        for name, (does, expect, value, act) in TOKEN_FAULTS.items():
            table[f"{place}.{name}"] = Fault(place, does, expect, value, act)
    for place, faults in _JSON.items():
        for name, (does, expect, value, edit) in faults.items():
            table[f"{place}.{name}"] = Fault(place, does, expect, value, edit)
    for place in GRANTS:
        for name, (does, expect, value, edit) in _JSON["token"].items():
            table[f"{place}.{name}"] = Fault(place, does, expect, value, edit)
    for name, (does, expect, value, change) in _CALLBACK.items():
        table[f"callback.{name}"] = Fault("callback", does, expect, value, change)
    for place in ("all", *ENDPOINTS, *GRANTS):
        for name, (does, expect, value) in (BEFORE | AFTER).items():
            table[f"{place}.{name}"] = Fault(place, does, expect, value)
    return table | _SWITCHES


FAULTS: Final[dict[str, Fault]] = _assemble()


class UnknownFaultError(KeyError):
    """No fault of that name; the message names the nearest ones."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(slots=True)
class _On:
    value: object
    times: int | None


class Faults:
    """The faults that are on. May be used from any thread."""

    def __init__(self) -> None:
        self._on: dict[str, _On] = {}
        self.cleared = 0
        self._lock = threading.Lock()

    def set(self, name: str, value: object = None, times: int | None = None) -> None:
        """Switches a fault on. `value` None: the table's; `times`: off again after so many uses. Raises UnknownFaultError."""
        known = FAULTS.get(name)
        if known is None:
            what = name.rsplit(".", 1)[-1]
            near = [other for other in FAULTS if what in other or name.split(".")[0] == other.split(".")[0]][:12]
            raise UnknownFaultError(f"no fault {name!r}; nearest: {', '.join(near) or 'see FAULTS'}")
        with self._lock:
            self._on[name] = _On(known.value if value is None else value, times)

    def clear(self, name: str | None = None) -> None:
        """Switches one off, or all; what hangs is let go. One that is off already is no mistake."""
        with self._lock:
            self.cleared += 1
            if name is None:
                self._on.clear()
            else:
                self._on.pop(name, None)

    @contextlib.contextmanager
    def during(self, name: str, value: object = None, times: int | None = None) -> Iterator[None]:
        """`with simulator.faults.during("token.hang"): …`"""
        self.set(name, value, times)
        try:
            yield
        finally:
            self.clear(name)

    def active(self) -> dict[str, object]:
        """Name -> value of every fault that is on."""
        with self._lock:
            return {name: on.value for name, on in self._on.items()}

    def any(self) -> bool:
        """Whether any fault is on: the quick question."""
        return bool(self._on)

    def is_on(self, name: str) -> bool:
        """Whether it is on, without using it up."""
        return name in self._on

    def take(self, name: str) -> object | None:
        """The value of a fault that is on (True when it has none), counted as one use; None when it is off."""
        if not self._on:
            return None
        with self._lock:
            on = self._on.get(name)
            if on is None:
                return None
            if on.times is not None:
                on.times -= 1
                if on.times <= 0:
                    del self._on[name]
            return True if on.value is None else on.value

    def spoil(self, places: tuple[str, ...], subject: object, context: object = None) -> None:
        """Lets every fault that is on for one of `places` change `subject`, in the order of the table.

        `context` is what a fault gets that has no value of its own (the key ring, for JWKS).
        """
        if not self._on:
            return
        for name in [name for name in FAULTS if name in self._on]:
            fault = FAULTS[name]
            if fault.act is None or fault.endpoint not in places:
                continue
            value = self.take(name)
            if value is not None:
                fault.act(subject, context if value is True else value)
