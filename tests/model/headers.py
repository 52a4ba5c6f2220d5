"""What the application is told of a person: contract §6 (profile psc) by table, decision 9 (whose situation), decision 31 (percent encoding)."""

from collections.abc import Mapping
from typing import Any

PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/:@")

# header -> where its value stands: (of the person | of the situation, key)
TABLE = {
    "X-PSC-Subject": ("person", "national_id"),
    "X-PSC-RPPS": ("rpps", ""),
    "X-PSC-Given-Name": ("name", "given_name"),
    "X-PSC-Family-Name": ("name", "family_name"),
    "X-PSC-Profession": ("situation", "profession"),
    "X-PSC-Category": ("situation", "category"),
    "X-PSC-Role": ("situation", "role"),
    "X-PSC-Speciality": ("situation", "speciality"),
    "X-PSC-Sector": ("situation", "sector"),
    "X-PSC-Structure": ("situation", "structure"),
    "X-PSC-Structure-Name": ("situation", "structure_name"),
    "X-PSC-Acr": ("person", "acr"),
    "X-PSC-Auth-Mode": ("person", "auth_mode"),
    "X-PSC-Auth-Time": ("person", "auth_time"),
    "X-PSC-Account": ("nothing", ""),
}
NOBODY = dict.fromkeys(TABLE, "")


def told(person: Mapping[str, Any], index: int | None) -> dict[str, str]:
    """Every header, as the application reads it; `index`: of the situation, None for a person with none."""
    situation = person["situations"][index] if index is not None else {}

    def value(source: str, key: str) -> str:
        if source == "rpps":
            subject = person["national_id"]
            return str(subject[1:]) if len(subject) == 12 and subject.isdecimal() and subject.startswith("8") else ""
        if source == "name":  # of exercise where PSC gives them, else civil
            return str(situation.get(key) or person[key])
        if source == "nothing":
            return ""
        return str((person if source == "person" else situation).get(key, ""))

    return {name: percent(value(*where)) for name, where in TABLE.items()}


def percent(text: str) -> str:
    """Every byte of the UTF-8 form but the plain ones as %XX; cut at 512 bytes before."""
    whole = text.encode()[:512].decode(errors="ignore").encode()
    return "".join(chr(byte) if byte in PLAIN else f"%{byte:02X}" for byte in whole)
