"""The authorization request, judged without I/O: what PSC and Keycloak send back as an error, and the proof of PKCE.

Refuses: what lacks `state`, `scope=openid scope_all`, `acr_values`; doubled parameters; a verifier that does not fit.
"""

import base64
import hashlib
import hmac
from typing import Final

from .realm import Code, OAuthError

Pairs = tuple[tuple[str, str], ...]

# Fields of our own form, not of OpenID Connect.
OURS: Final = frozenset({"person", "mode", "acr", "cancel", "confirm"})


def problem(query: Pairs, form: Pairs, *, require_pkce: bool = False) -> tuple[str, str] | None:
    """(error, description) of a request that Keycloak, or PSC's own rules, would send back."""
    asked = dict(query) | dict(form)
    for pairs in (query, form):
        names = [name for name, _ in pairs if name not in OURS]
        if len(names) != len(set(names)):
            return "invalid_request", "duplicated parameter"
    if "response_type" not in asked:
        return "invalid_request", "Missing parameter: response_type"
    if asked["response_type"] != "code":
        return "unsupported_response_type", "Only the code flow is open to this client"
    if asked.get("response_mode", "query") not in ("query", "fragment", "form_post"):
        return "invalid_request", "Invalid parameter: response_mode"
    if not asked.get("state"):
        return "invalid_request", "Missing parameter: state"
    if not {"openid", "scope_all"} <= set(asked.get("scope", "").split()):
        return "invalid_scope", "Invalid scopes: openid and scope_all are required"
    if not asked.get("acr_values"):
        return "invalid_request", "Missing parameter: acr_values"
    if asked.get("max_age", "0") and not asked.get("max_age", "0").isdecimal():
        return "invalid_request", "Invalid parameter: max_age"
    method = asked.get("code_challenge_method", "plain")
    challenge = asked.get("code_challenge", "")
    if (challenge or "code_challenge_method" in asked) and method not in ("plain", "S256"):
        return "invalid_request", "Invalid parameter: code_challenge_method"
    if (require_pkce or "code_challenge_method" in asked) and not challenge:
        return "invalid_request", "Missing parameter: code_challenge"
    if challenge and not 43 <= len(challenge) <= 128:
        return "invalid_request", "Invalid parameter: code_challenge"
    prompts = asked.get("prompt", "").split()
    if "none" in prompts and len(prompts) > 1:
        return "invalid_request", "Invalid parameter: prompt"
    return None


def check_pkce(code: Code, verifier: str) -> None:
    """RFC 7636 §4.6. Raises OAuthError."""
    if not code.challenge:
        if verifier:
            raise OAuthError("invalid_grant", "PKCE code verifier specified but challenge not present in authorization")
        return
    if not verifier:
        raise OAuthError("invalid_grant", "PKCE code verifier not specified")
    good = 43 <= len(verifier) <= 128 and verifier.isascii()
    if code.method == "S256":
        good = good and hmac.compare_digest(_s256(verifier).encode(), code.challenge.encode())
    else:
        good = good and hmac.compare_digest(verifier.encode(), code.challenge.encode())
    if not good:
        raise OAuthError("invalid_grant", "PKCE verification failed: Code mismatch")


def _s256(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
