"""Variables of the environment, laid over what the file says.

For: config.py. FORWARD_AUTH__PSC__CLIENT_ID is psc.client_id, FORWARD_AUTH__APPS__MON_APP__ORIGINS is apps.mon-app.origins (a `-` of an
app's name is a `_` there), FORWARD_AUTH__HEADERS__NAMES__RPPS is headers.names.rpps. A variable wins over the file; lists are JSON or
have commas, tables and rules are JSON. Refuses: a variable that names no key, and to look at any that is not ours.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from forward_auth.config_keys import APP, HEADERS, LATER, NAMES, SECTIONS, AppHeaders, HeaderNames
from forward_auth.config_reading import BROKEN, NOT_YET, Key, Reading, Wrong, each_key, key_name, nearest, shown
from forward_auth.errors import Mistake
from forward_auth.toml_lines import Where

PREFIX: Final = "FORWARD_AUTH__"

_BELOW: Final[Mapping[type, Mapping[str, Key]]] = {AppHeaders: HEADERS, HeaderNames: NAMES}
_PAIRS: Final = {"client_secret": "client_secret_file", "client_secret_file": "client_secret"}


def take_variable(reading: Reading, data: dict[str, Any], variable: str, text: str) -> None:
    """Lay one variable over what the file says. Others than ours are not looked at."""
    name = variable if variable.isprintable() else shown(variable)
    if not variable.startswith(PREFIX):
        if re.match(rf"FORWARD_AUTH_({'|'.join(SECTIONS)}|APPS)_", variable, re.IGNORECASE):
            cure = "write two underscores between the parts of its name, or remove it"
            reading.mistakes.append(Mistake(name, 0, "environment", "is not read", cure, warning=True))
        return
    parts = [part.lower() for part in variable.removeprefix(PREFIX).split("__")]
    where: Where = tuple(parts)
    try:
        where, key = _key_of(data, parts)
        reading.variables[where] = name
        value = key.kind.from_text(text)
    except Wrong as wrong:
        reading.mistakes.append(Mistake(name, 0, key_name(where), wrong.problem, wrong.cure))
        value = BROKEN
    if where not in reading.variables:
        return
    table: Any = data
    for part in where[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            return  # the file has something else there, and is told so
    other = ("psc", _PAIRS.get(str(where[-1]), ""))
    if other[:1] == where[:1] and other not in reading.variables:
        table.pop(other[1], None)  # the file gives the same thing in the other way
    for place in [place for place in reading.lines if place[: len(where)] == where]:
        del reading.lines[place]
    table[where[-1]] = value


def _key_of(data: Mapping[str, Any], parts: list[str]) -> tuple[Where, Key]:
    """Which key the parts of a variable's name mean. Raises Wrong when they mean none."""
    section, *rest = parts
    if section in LATER[""]:
        raise Wrong(NOT_YET, "remove it")
    if section not in SECTIONS and section != "apps":
        near = nearest(section, [*SECTIONS, "apps"])
        raise Wrong("is not known", f"write {PREFIX}{near.upper()}__…" if near else "remove it")
    where: Where = (section,)
    keys, later = (APP, LATER["apps"]) if section == "apps" else (SECTIONS[section], LATER.get(section, {}))
    if section == "apps" and rest:
        where = (section, _app_name(data, rest.pop(0)))
    while rest:
        name = rest.pop(0)
        where = (*where, name)
        if key := keys.get(name):
            if not rest:
                return where, key
            keys, later = _BELOW.get(type(key.kind), {}), {}
        elif name in later:
            raise Wrong(NOT_YET, "remove it")
        else:
            near = nearest(name, keys)
            known = ", ".join(known.upper() for known, _ in each_key(keys))
            raise Wrong(
                "is not known", f"write {near.upper()}" if near else f"remove it; known here: {known or 'nothing'}"
            )
    raise Wrong("names no key", f"write {PREFIX}{'APPS__NAME' if section == 'apps' else section.upper()}__KEY")


def _app_name(data: Mapping[str, Any], part: str) -> str:
    """`APPS__MON_APP` means the app `mon-app`, or `mon_app` if the file has that (and is told that it may not)."""
    apps = data.get("apps")
    wanted = part.replace("_", "-")
    names: Iterable[str] = apps if isinstance(apps, dict) else ()
    return next((name for name in names if name.replace("_", "-").lower() == wanted), wanted)
