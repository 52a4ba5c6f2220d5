"""Every page with values a real one has, for the tests that render them all.

One entry per page and variant: (page, values). `hostile()` gives the same with every text replaced by an attack.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from forward_auth.web.pages import CAUSES, REASONS

HOSTILE = """<script>alert(1)</script>"'&{0}{{7*7}}"""


@dataclass(frozen=True, slots=True)
class Settings:
    """The section `pages` of a configuration."""

    language: str = "fr"
    establishment: str = "Centre hospitalier de l’Exemple"
    contact: str = "Assistance informatique, poste 4242, assistance@hopital.example"
    logo: Path | None = None


_AGAIN = {"action_url": "/psc/start?to=https%3A%2F%2Fdossier.hopital.example%2F"}
_WHO = "Camille Martin-Delaunay"
_SESSION: Mapping[str, object] = {
    "action_url": "/psc/sign-out",
    "given_name": "Camille",
    "family_name": "MARTIN-DELAUNAY",
    "profession": "Médecin",
    "structure": "Centre hospitalier de l’Exemple, service de médecine interne",
    "auth_mode": "CARD",
    "since": 1_795_525_500,  # 2026-11-24 14:05 in Paris
    "ends_at": 1_795_539_900,
    "apps": [
        ("Dossier patient", "https://dossier.hopital.example/"),
        ("Prescription", "https://prescription.hopital.example/"),
    ],
    "idle": 1800,
}
_REQUIRED = [
    "Profession : médecin, chirurgien-dentiste ou sage-femme",
    "Secteur d’activité : établissement public de santé",
]

SAMPLES: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "sign_in": ("sign_in", {"action_url": "/psc/start", "hidden": {"to": "https://dossier.hopital.example/?a=1&b=2"}}),
    "sign_in-ended": ("sign_in", {"action_url": "/psc/start", "hidden": {}, "notice": "ended"}),
    "sign_out": (
        "sign_out",
        {"action_url": "/psc/sign-out", "hidden": {"token": "t0ken"}, "who": _WHO, "cancel_url": "/"},
    ),
    "signed_out": ("signed_out", _AGAIN),
    "signed_out-untold": ("signed_out", {**_AGAIN, "psc_told": False}),
    "session": ("session", _SESSION),
    "session-bare": (
        "session",
        {**_SESSION, "profession": "", "structure": "", "auth_mode": "", "apps": (), "idle": 0, "given_name": ""},
    ),
    **{
        f"refused-{reason}": (
            "refused",
            {
                "action_url": "/psc/start?prompt=again",
                "reason": reason,
                "required": _REQUIRED if reason == "rule" else [],
                "who": _WHO if reason != "unknown" else None,
                "back_url": "https://dossier.hopital.example/",
            },
        )
        for reason in REASONS
    },
    "refused_general": ("refused_general", {"action_url": "https://dossier.hopital.example/"}),
    "unavailable": ("unavailable", {**_AGAIN, "retry_after": 30}),
    "unavailable-unknown": ("unavailable", _AGAIN),
    "stale": ("stale", _AGAIN),
    "loop": ("loop", _AGAIN),
    **{
        f"loop-{cause}": (
            "loop",
            {
                **_AGAIN,
                "cause": cause,
                "technical": ["third start without a cookie we set, host dossier.hopital.example, scheme http"],
            },
        )
        for cause in CAUSES
    },
    "lost": ("lost", _AGAIN),
    "frame": ("frame", _AGAIN),
    "denied": ("denied", _AGAIN),
    "level": ("level", _AGAIN),
    "error": ("error", _AGAIN),
    "not_found": ("not_found", {"action_url": "https://dossier.hopital.example/"}),
    "down": ("down", {}),
    "handoff_problem": ("handoff_problem", _AGAIN),
}

WITH_EVERYTHING: Mapping[str, object] = {
    "reference": "K7PM-2XQD",
    "app_title": "Dossier patient",
    "switch_person_url": "/psc/start?to=%2F&person=other",
    "here": "/psc/page?to=https%3A%2F%2Fdossier.hopital.example%2F%3Fa%3D1",
}


def hostile(values: Mapping[str, object]) -> dict[str, object]:
    """The same values with HOSTILE wherever a text may stand; addresses keep their shape and carry it in their query."""

    def spoil(key: str, value: object) -> object:
        match value:
            case str() if key in {"reason", "cause", "notice"}:
                return value
            case str() if key.endswith("_url") or key == "here":
                return value.partition("?")[0] + "?x=" + HOSTILE.replace(" ", "+")
            case str():
                return HOSTILE
            case Mapping():
                return {HOSTILE: HOSTILE} if value else {}
            case list() | tuple():
                return [(HOSTILE, "/?" + HOSTILE) if isinstance(item, tuple) else HOSTILE for item in value]
        return value

    return {key: spoil(key, value) for key, value in values.items()}
