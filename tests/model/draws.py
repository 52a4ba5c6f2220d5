"""Rules, people and requests made up by chance, ugly ones among them: as the model speaks of them, as TOML, as userinfo and as bytes.

For: whoever asks the model and the program the same question. `Random` is plain (a seed, a million questions) or Hypothesis's own (which shrinks what it
finds). Refuses: nothing; what the configuration's reader refuses is drawn again by who asks.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

Rule = dict[str, Any]
Person = dict[str, Any]

CODES: Mapping[str, Sequence[str]] = {
    "profession": ("10", "60", "99"),
    "category": ("C", "E"),
    "role": ("313", "FON-35"),
    "speciality": ("SM26", "SM54"),
    "sector": ("SA01", "SA07"),
    "mode": ("L", "S"),
    "structure": ("R102671", "F0B0193488", "010000024"),
    "national_id": ("899700000001", "899700000019", "500000001815646/CPAT00045", "ANS20231122132732"),
    "national_id_file": ("899700000001", "899700000019", "500000001815646/CPAT00045"),
    "auth_mode": ("CARD", "MOBILE"),
    "acr": ("eidas1", "eidas2"),
}
LABELS = {"10": "Médecin", "60": "Infirmier"}  # the contract takes labels in the file
AGES = (60, 120, 300, 600, 900)
SITUATION = ("profession", "category", "role", "speciality", "sector", "mode")
PATTERNS = (
    "/",
    "/*",
    "/*",
    "/*",
    "/secret",
    "/secret/*",
    "/secret/*",
    "/public/*",
    "/public/*",
    "/public/page",
    "/Public",
    "/a/b/*",
)
PATTERNS += ("/a", "/été/*", "/été", "/favicon.ico", "/a/secret", "/public/secret/*", "/%7Ea/*", "/stra\u00dfe", "/a.b/*")  # fmt: skip
METHODS = ("GET", "POST", "PUT", "HEAD", "OPTIONS")

# -- rules -------------------------------------------------------------------------------------------------------------


def some(random: Random, values: Sequence[str]) -> list[str]:
    return sorted({random.choice(values) for _ in range(random.choice((1, 2, 2)))})


def a_table(random: Random, depth: int = 0) -> dict[str, Any]:
    """One `require`. Deeper tables are fewer."""
    keys = [*CODES, "profession", "sector", "role", "max_age"] + ["all", "any", "any", "not"] * (depth < 2)
    table: dict[str, Any] = {}
    for _ in range(random.choice((1, 1, 1, 2, 2, 3))):
        key = random.choice(keys)
        if key in ("all", "any"):
            table[key] = [a_table(random, depth + 1) for _ in range(random.choice((1, 2, 2, 3)))]
        elif key == "not":
            table[key] = a_table(random, depth + 1)
        elif key == "max_age":
            table[key] = random.choice(AGES)
        else:
            table[key] = some(random, CODES[key])
    return table


def a_rule(random: Random) -> Rule:
    rule: Rule = {"paths": list(dict.fromkeys(random.choice(PATTERNS) for _ in range(random.choice((1, 1, 2, 3)))))}
    if random.randrange(3) == 0:
        rule["methods"] = some(random, METHODS)
    if random.randrange(4) == 0:
        rule["open"] = True
    else:
        rule["require"] = a_table(random)
    return rule


def some_rules(random: Random) -> list[Rule]:
    """One in a dozen apps has none."""
    if random.randrange(12) == 0:
        return []
    rules = [a_rule(random) for _ in range(random.choice((0, 1, 2, 3, 4)))]
    if random.randrange(3) or not rules:
        rules.append({"paths": ["/*"], "require": a_table(random)})
    return rules


def toml_rules(app: str, rules: Sequence[Rule], lists: dict[str, Sequence[str]]) -> str:
    """As an operator writes them. `lists`: receives the files of national ids, name -> ids."""

    def value(key: str, of: Any) -> str:
        if key in ("all", "any"):
            return "[" + ", ".join(table(each) for each in of) + "]"
        if key == "not":
            return table(of)
        if key == "max_age":
            return json.dumps(f"{of}s" if of % 60 else f"{of // 60}m")
        if key == "national_id_file":
            name = f"list-{len(lists)}.txt"
            lists[name] = of
            return json.dumps(name)
        if key == "profession":
            of = [LABELS.get(each, each) if number % 2 else each for number, each in enumerate(of)]
        return json.dumps(of, ensure_ascii=False)

    def table(of: Mapping[str, Any]) -> str:
        return "{ " + ", ".join(f"{key} = {value(key, each)}" for key, each in of.items()) + " }"

    lines = []
    for rule in rules:
        lines += ["", f"[[apps.{app}.rules]]", f"paths = {json.dumps(rule['paths'], ensure_ascii=False)}"]
        if "methods" in rule:
            lines.append(f"methods = {json.dumps(rule['methods'])}")
        lines.append("open = true" if rule.get("open") else f"require = {table(rule['require'])}")
    return "\n".join(lines) + "\n"


# -- people ------------------------------------------------------------------------------------------------------------


def a_person(random: Random) -> Person:
    """Somebody, but for the time of the authentication. Situations differ in the name of their structure."""
    situations = []
    for number in range(random.choice((0, 1, 1, 1, 2, 2, 3))):
        situation: dict[str, Any] = {
            key: random.choice(("", *CODES[key], *CODES[key], *CODES[key])) for key in SITUATION
        }
        ids = some(random, CODES["structure"]) if random.randrange(4) else []
        situation |= {"structures": ids, "structure": ids[0] if ids else "", "structure_name": f"Hôpital n° {number}"}
        if random.randrange(2):
            situation |= {"given_name": "ÉLOÏSE", "family_name": "D’AŸ DE L'ÎLE"}
        situations.append(situation)
    return {
        "national_id": random.choice(CODES["national_id"]),
        "given_name": random.choice(("CAMILLE", "Łukasz-Émile")),
        "family_name": random.choice(("DUPONT", "d'Hélène")),
        "auth_mode": random.choice(CODES["auth_mode"]),
        "acr": random.choice(("eidas1", "eidas1", "eidas2")),
        "situations": situations,
    }


def userinfo(person: Person, sub: str) -> dict[str, object]:
    """As PSC tells of that person: one exercice for each situation, one activity in it."""
    exercices = [
        {
            "codeProfession": each["profession"],
            "codeCategorieProfessionnelle": each["category"],
            "codeSavoirFaire": each["speciality"],
            "nomDexercice": each.get("family_name", ""),
            "prenomDexercice": each.get("given_name", ""),
            "activities": [
                {
                    "codeModeExercice": each["mode"],
                    "codeSecteurDactivite": each["sector"],
                    "codeRole": each["role"],
                    "identifiantTechniqueDeLaStructure": (each["structures"] or [""])[0],
                    "numeroFinessSite": "".join(each["structures"][1:2]),
                    "raisonSocialeSite": each["structure_name"],
                }
            ],
        }
        for each in person["situations"]
    ]
    return {
        "sub": sub,
        "SubjectNameID": person["national_id"],
        "preferred_username": person["national_id"],
        "given_name": person["given_name"],
        "family_name": person["family_name"],
        "authMode": person["auth_mode"],
        "SubjectRefPro": {"exercices": exercices},
    }


# -- requests ----------------------------------------------------------------------------------------------------------

SEGMENTS = (
    "secret",
    "secret",
    "public",
    "public",
    "page",
    "a",
    "b",
    "été",
    "favicon.ico",
    "~a",
    "stra\u00dfe",
    "a.b",
    "",
    "x",
    "psc",
)
ENDS = ("", ".", "%20", " ", "..", ";x=1", "%00", "%3b", "\\", "%5C", "%2e", "%25", "%0a", "\t", "\u00a0", "\udcff", "%23", "*", "%3F")  # fmt: skip
JOINTS = ("//", "/./", "/../", "/..;/", "/%2e%2e/", "/.%2E/", "%2f", "%2F", "\\", "%5c", "%252f", ";/", "\uff0f")
JOINTS += ("\u2025/", "/\uff0e\uff0e/", "%c0%af", "%ef%bc%8f", "/%", "/%zz")  # fmt: skip
BAD_METHODS = ("get", "", "GET,POST", "A" * 33, "G\u00e9T", "GET POST")


def escaped(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape"))


def spelt(random: Random, word: str) -> str:
    """The same word, or nearly, as it is written by somebody with something in mind."""
    how = random.randrange(7)
    if how == 0:
        return word.upper()
    if how == 1:
        return word.title()
    if how == 2:
        return unicodedata.normalize("NFD", word)
    if how == 3:  # full-width
        return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in word)
    if how == 4:
        return word.replace("s", "\u017f")  # a long s folds to s
    if how == 5:
        return escaped(word)
    at = random.randrange(len(word)) if word else 0
    one = escaped(word[at : at + 1])
    return word[:at] + (one if random.randrange(2) else one.lower()) + word[at + 1 :]


def a_path(random: Random) -> bytes:
    """Mostly plain, or rules are never told apart; never with a query."""
    if random.randrange(40) == 0:
        garbage = bytes(random.randrange(256) for _ in range(random.randrange(12)))
        return b"/" + garbage.translate(None, b"?#")
    text = ""
    for _ in range(random.choice((1, 1, 2, 2, 3))):
        text += "/" if random.randrange(20) else random.choice(JOINTS)
        word = random.choice(SEGMENTS)
        if random.randrange(5) == 0:
            word = spelt(random, word)
        text += word + ("" if random.randrange(20) else random.choice(ENDS))
    text += random.choice(("", "", "", "", "/", "/.", ".", "%20/")) if random.randrange(5) == 0 else ""
    return text.encode("utf-8", "surrogateescape")


def a_method(random: Random) -> bytes:
    return random.choice((*METHODS, "GET", "GET", "POST") if random.randrange(20) else BAD_METHODS).encode()
