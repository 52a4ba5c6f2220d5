"""The discovery document, with all that is odd in the real one (a capture of the ANS's sandbox, 2025).

Odd and kept on purpose: `acr_values_supported` says ["0","0"], HS256 is among the algorithms, grants and methods are advertised
that PSC does not support, the mTLS aliases are the same addresses, and the authorization endpoint is on another host.
"""

from typing import Any, Final


def _words(text: str) -> list[str]:
    return text.split()


_ASYMMETRIC: Final = _words("PS384 RS384 EdDSA ES384 ES256 RS256 ES512 PS256 PS512 RS512")
_SIGNING: Final = _words("PS384 RS384 EdDSA ES384 HS256 HS512 ES256 RS256 HS384 ES512 PS256 PS512 RS512")
_METHODS: Final = _words("private_key_jwt client_secret_basic client_secret_post tls_client_auth client_secret_jwt")
_CIBA: Final = "urn:openid:params:grant-type:ciba"
_DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"


def document(issuer: str, authorization_endpoint: str) -> dict[str, Any]:
    """What `<issuer>/.well-known/wallet-openid-configuration` answers."""
    oidc = f"{issuer}/protocol/openid-connect"
    aliases = {
        "token_endpoint": f"{oidc}/token",
        "revocation_endpoint": f"{oidc}/revoke",
        "introspection_endpoint": f"{oidc}/token/introspect",
        "device_authorization_endpoint": f"{oidc}/auth/device",
        "registration_endpoint": f"{issuer}/clients-registrations/openid-connect",
        "userinfo_endpoint": f"{oidc}/userinfo",
        "pushed_authorization_request_endpoint": f"{oidc}/ext/par/request",
        "backchannel_authentication_endpoint": f"{oidc}/ext/ciba/auth",
    }
    return {
        "issuer": issuer,
        "authorization_endpoint": authorization_endpoint,
        **aliases,
        "end_session_endpoint": f"{oidc}/logout",
        "frontchannel_logout_session_supported": True,
        "frontchannel_logout_supported": True,
        "jwks_uri": f"{oidc}/certs",
        "check_session_iframe": f"{oidc}/login-status-iframe.html",
        "grant_types_supported": [
            *_words("authorization_code implicit refresh_token password client_credentials"),
            _CIBA,
            _DEVICE,
        ],
        "acr_values_supported": ["0", "0"],
        "response_types_supported": [
            *_words("code none id_token token"),
            "id_token token",
            "code id_token",
            "code token",
            "code id_token token",
        ],
        "subject_types_supported": ["public", "pairwise"],
        "id_token_signing_alg_values_supported": _SIGNING,
        "id_token_encryption_alg_values_supported": ["RSA-OAEP", "RSA-OAEP-256", "RSA1_5"],
        "userinfo_signing_alg_values_supported": [*_SIGNING, "none"],
        "response_modes_supported": _words("query fragment form_post query.jwt fragment.jwt form_post.jwt jwt"),
        "token_endpoint_auth_methods_supported": _METHODS,
        "introspection_endpoint_auth_methods_supported": _METHODS,
        "claims_supported": _words("aud sub iss auth_time name given_name family_name preferred_username email acr"),
        "claim_types_supported": ["normal"],
        "claims_parameter_supported": True,
        "scopes_supported": _words(
            "openid microprofile-jwt rpps referentiel web-origins basic identity acr offline_access eidas1 profile roles"
            " email scope_all phone interop scope_1 address scope_2 eidas2"
        ),
        "request_parameter_supported": True,
        "request_uri_parameter_supported": True,
        "require_request_uri_registration": True,
        "code_challenge_methods_supported": ["plain", "S256"],
        "tls_client_certificate_bound_access_tokens": True,
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
        "backchannel_token_delivery_modes_supported": ["poll", "ping"],
        "backchannel_authentication_request_signing_alg_values_supported": _ASYMMETRIC,
        "require_pushed_authorization_requests": False,
        "mtls_endpoint_aliases": aliases,
        "authorization_response_iss_parameter_supported": True,
    }
