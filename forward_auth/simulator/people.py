"""The people of the simulator: fictitious professionals, each with the userinfo Pro Santé Connect would answer about them.

For: the page that picks a person, tests, and whoever needs a realistic userinfo by a short name. The file maps a short
stable name to `{"label": …, "userinfo": {…}}`, the userinfo being whole, as it would travel. Refuses: a file in which an
entry lacks one of the three things everything else stands on (`label`, `userinfo.sub`, `userinfo.SubjectNameID`).
"""

import json
from pathlib import Path
from typing import Final, TypedDict

FILE: Final = Path(__file__).with_name("people.json")


class Person(TypedDict):
    """`label`: one French line for the page. `userinfo`: the JSON object the userinfo endpoint answers, complete."""

    label: str
    userinfo: dict[str, object]


class PeopleError(ValueError):
    """The file of people cannot be used; the message is one line and names the entry."""


def people(file: Path = FILE) -> dict[str, Person]:
    """Name -> person, in the order of the file. A fresh copy at each call. Raises PeopleError."""
    try:
        read: object = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PeopleError(f"{file}: {error}") from error
    if not isinstance(read, dict) or not read:
        raise PeopleError(f"{file}: expected an object: name -> {{label, userinfo}}")
    found: dict[str, Person] = {}
    for name, entry in read.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("userinfo"), dict):
            raise PeopleError(f"{file}: {name}: expected {{label, userinfo}}, userinfo being an object")
        if not isinstance(entry.get("label"), str):
            raise PeopleError(f"{file}: {name}: label is missing")
        for claim in ("sub", "SubjectNameID"):
            if not isinstance(entry["userinfo"].get(claim), str) or not entry["userinfo"][claim]:
                raise PeopleError(f"{file}: {name}: userinfo.{claim} is missing")
        found[name] = Person(label=entry["label"], userinfo=entry["userinfo"])
    return found
