"""What the documents say is true: commands, targets, links, keys, headers, metrics, files. A document that drifts is a failing test.

For: README.md, README.fr.md, ARCHITECTURE.md, SECURITY.md and CHANGELOG.md. Refuses: to judge their style; it compares names with what bears them.
"""

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forward_auth.cli import main
from forward_auth.config import load, schema
from forward_auth.headers import FIELDS, PROFILES, encode
from forward_auth.metrics import OUTCOMES, PREFIX, Metrics

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.fr.md")
DOCUMENTS = (*READMES, "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md")
PROGRAM = "psc-forward-auth"

every_readme = pytest.mark.parametrize("name", READMES)
every_document = pytest.mark.parametrize("name", DOCUMENTS)


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of that language."""
    return re.findall(rf"^[ ]*```{language}\n(.*?)^[ ]*```", text, re.MULTILINE | re.DOTALL)


def code_spans(text: str) -> list[str]:
    """What stands between single backticks, outside fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^[ ]*```.*?^[ ]*```", "", text, flags=re.MULTILINE | re.DOTALL))


def shell_lines(text: str) -> list[str]:
    return [line.strip() for block in blocks(text, "sh") for line in block.splitlines() if line.strip()]


def invocations(text: str) -> Iterator[list[str]]:
    """Our program as the text calls it, in blocks and in code spans: the words behind its name."""
    for line in (*shell_lines(text), *code_spans(text)):
        if PROGRAM not in line:
            continue
        words = shlex.split(line)
        for at, word in enumerate(words):
            # After these its name is the service's or the user's.
            if word == PROGRAM and not (at and words[at - 1] in ("-u", "reload", "status", "--now")):
                rest = words[at + 1 :]
                yield rest[: rest.index("|")] if "|" in rest else rest


def run_help(*command: str) -> None:
    """`--help` of a command (none: of the program), printed. Some parsers leave by SystemExit, some return."""
    try:
        code: object = main([*command, "--help"])
    except SystemExit as ended:
        code = ended.code
    assert 0 == code


def section(text: str, title: str) -> str:
    """What stands below the heading `## title`, up to the next of its rank."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def slug(heading: str) -> str:
    """The anchor that the usual readers of Markdown make of a heading."""
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


# -- commands --------------------------------------------------------------------------------------------------------------------


@every_document
def test_commands_exist(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command a document calls is one of the program's, with the actions and options its own --help names."""
    called = [words for words in invocations(text_of(name)) if words]
    for command, *words in called:
        run_help(command)
        told = capsys.readouterr().out
        assert f"{PROGRAM} {command}" in told
        for word in words:
            if word.startswith("--"):
                assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", told), f"{command} has no {word}"
        if words and command in ("sessions", "keys", "proxy-config"):
            assert re.search(rf"[{{|,\s]{re.escape(words[0])}[}}|,\s]", told), (
                f"{command} does nothing called {words[0]}"
            )


@every_readme
def test_every_command_is_in_the_readme(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What --help lists, and the simulator, stands in the README's table of commands."""
    run_help()
    listed = set(re.findall(r"^    ([a-z][a-z-]*)(?= |$)", capsys.readouterr().out, re.MULTILINE))
    assert {"serve", "check-config", "proxy-config"} <= listed  # so that an empty reading is noticed
    assert {*listed, "simulator"} == {words[0] for words in invocations(text_of(name)) if words}


def test_readmes_say_the_same_commands() -> None:
    """A French reader types what an English one types, in the same order, and writes the same configuration."""
    english, french = (text_of(name) for name in READMES)
    assert shell_lines(english)
    assert shell_lines(english) == shell_lines(french)
    assert blocks(english, "toml") == blocks(french, "toml")


@every_document
def test_make_targets_exist(name: str) -> None:
    """Every `make TARGET` a document names is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    text = text_of(name)
    named = set(re.findall(r"\bmake ([a-z-]+)", "\n".join((*shell_lines(text), *code_spans(text)))))
    assert set() == named - targets


def test_every_make_target_is_in_the_readme() -> None:
    """The targets that the Makefile explains to people are told in the README."""
    explained = set(re.findall(r"^([a-z-]+):.*## ", text_of("Makefile"), re.MULTILINE))
    told = set(re.findall(r"make ([a-z-]+)", text_of("README.md")))
    assert set() == explained - told - {"help", "set-up", "set-up-dev"}


# -- links and files -------------------------------------------------------------------------------------------------------------


@every_document
def test_links_lead_somewhere(name: str) -> None:
    """Every relative link names a file of the project and, behind #, a heading of it."""
    links = re.findall(r"\]\((?!https?://)([^)\s]+)\)", text_of(name))
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = ROOT / path if path else ROOT / name
        assert target.is_file(), link
        if anchor:
            assert anchor in map(slug, re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)), link


@every_document
def test_named_files_exist(name: str) -> None:
    """Files of config/, deploy/ and tests/ that stand in code are in the project."""
    text = text_of(name)
    words = {word for line in (*shell_lines(text), *code_spans(text)) for word in line.split()}
    for word in words:
        if re.fullmatch(r"(config|deploy|tests)/[\w./-]*", word):
            assert (ROOT / word).exists(), word


@every_document
def test_nothing_of_one_machine(name: str) -> None:
    """No path of the machine it was written on, and no host of a package registry."""
    found = re.findall(
        r"/(?:work|home|root|Users|tmp|mnt)/|\bpypi\.|pythonhosted|\b(?:docker|ghcr|quay)\.io|\bregistry\.",
        text_of(name),
    )
    assert [] == found


def test_layout_names_every_module() -> None:
    """ARCHITECTURE.md has a line for each module and none for one that is not there; the simulator explains itself."""
    layout = section(text_of("ARCHITECTURE.md"), "Layout").partition("simulator/")[0]
    rows = re.findall(r"^  ([\w/]+\.py)(?:  ([\w/]+\.py))?", layout, re.MULTILINE)
    named = [word for row in rows for word in row if word]
    package = ROOT / "forward_auth"
    there = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    assert {path for path in there if not path.startswith("simulator/")} == set(named)
    assert len(set(named)) == len(named)


def test_places_exist() -> None:
    """Where ARCHITECTURE.md sends a newcomer, the thing is."""
    rows = re.findall(r"^\| where .* \| (.*) \|$", text_of("ARCHITECTURE.md"), re.MULTILINE)
    assert rows
    for row in rows:
        file: Path | None = None
        for span in re.findall(r"`([^`]+)`", row):
            if span.endswith((".py", ".toml", "/")):
                file = next((place for place in (ROOT / "forward_auth" / span, ROOT / span) if place.exists()), None)
                assert file is not None, span
            else:
                assert file is not None
                assert re.search(rf"^(?:async def|def|class)? *{span}\b", file.read_text("utf-8"), re.MULTILINE), span


# -- configuration ---------------------------------------------------------------------------------------------------------------


def keys_of_schema() -> set[tuple[str, str]]:
    """(section, key); of an app as ("apps", key)."""
    whole = schema()
    keys = {(name, key) for name, part in whole["properties"].items() for key in resolved(whole, part)}
    app = whole["properties"]["apps"]
    values = app.get("additionalProperties") or next(iter(app["patternProperties"].values()))
    return keys | {("apps", key) for key in resolved(whole, values)}


def resolved(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The properties of a table of the schema, behind a $ref or not."""
    if "$ref" in part:
        part = whole["$defs"][part["$ref"].rpartition("/")[2]]
    properties: dict[str, Any] = part.get("properties", {})
    return properties


@every_document
def test_configuration_keys_exist(name: str) -> None:
    """Every `section.key`, `apps.NAME.key` and `[section]` in a document is in the schema."""
    keys = keys_of_schema()
    assert ("server", "origin") in keys
    assert ("apps", "rules") in keys
    sections = {part for part, _ in keys}
    for span in code_spans(text_of(name)):
        if found := re.fullmatch(r"(\w+)\.(?:NAME\.|\*\.)?(\w+)", span):
            if found[1] in sections and found[2] not in ("py", "toml", "json", "md"):
                assert (found[1], found[2]) in keys, span
        elif found := re.fullmatch(r"\[(\w+)(?:\.NAME)?\]", span):
            assert found[1] in sections, span
        for variable in re.findall(r"FORWARD_AUTH__(\w+)", span):
            assert tuple(variable.lower().split("__")) in keys, span


def test_keys_of_require_are_all_told() -> None:
    """The README's list of `require` keys is the schema's."""
    line = re.search(r"^- Keys of `require`: (.*?)combine", text_of("README.md"), re.MULTILINE | re.DOTALL)
    assert line is not None
    assert set(resolved(schema(), {"$ref": "#/$defs/require"})) == set(re.findall(r"`(\w+)`", line[1]))


@every_readme
def test_configurations_load(name: str, tmp_path: Path) -> None:
    """Each TOML block of a README is accepted, without a warning: the first by itself, the others below it."""
    secret = tmp_path / "client-secret"
    secret.touch(0o600)
    secret.write_text("e6c1f4d0-not-a-real-secret-0d1f6c7b\n", "utf-8")
    (tmp_path / "liste-blanche.txt").write_text("899700218896\n", "utf-8")
    least, *others = (
        block.replace("/etc/psc-forward-auth/", f"{tmp_path}/") for block in blocks(text_of(name), "toml")
    )
    assert others
    for number, block in enumerate(("", *others)):
        file = tmp_path / f"{number}.toml"
        file.write_text(f"{least}\n{block}", "utf-8")
        settings = load(file, {})
        assert (("dossier",), ()) == (tuple(app.name for app in settings.apps), settings.warnings)
        assert 1 + 2 * (block != "") == len(settings.apps[0].rules)


def test_least_configuration_is_the_shipped_one() -> None:
    """The block of «what is enough» says what config/bas.toml says, but for its pages."""
    least = tomllib.loads(blocks(text_of("README.md"), "toml")[0])
    shipped = tomllib.loads(text_of("config/bas.toml"))
    assert shipped == least | {"pages": shipped["pages"]}


# -- headers and metrics ---------------------------------------------------------------------------------------------------------


@every_readme
def test_headers_are_all_told(name: str) -> None:
    """The table of headers holds every header of profile `psc` and no other."""
    told = re.findall(r"^\| (`X-PSC-.*?) \|", text_of(name), re.MULTILINE)
    assert list(FIELDS.values()) == [header for cell in told for header in re.findall(r"`([^`]+)`", cell)]


def test_profiles_are_told() -> None:
    """Each profile has its row, and the headers named there are its own."""
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*) \|$", section(text_of("README.md"), "Headers"), re.MULTILINE))
    assert set(PROFILES) <= set(rows)
    for profile, headers in PROFILES.items():
        named = re.findall(r"`((?:X|OIDC|Remote)-[\w-]+)`", rows[profile])
        assert set() == set(named) - {header for header, _ in headers}


def test_encodings_are_as_shown() -> None:
    """The table of encodings shows what each encoding makes of that name."""
    table = section(text_of("README.md"), "Headers")
    name = re.search(r"\| encoding \| `(.+?)` becomes", table)
    assert name is not None
    for encoding in ("percent", "utf8", "rfc2047", "ascii"):
        assert f"`{encode(name[1], encoding)}`" in table, encoding


def metric_families() -> dict[str, tuple[str, ...]]:
    """Name as scraped (a histogram by its family) -> its labels."""
    families = {}
    for family in Metrics(["nginx"], ["dossier"]).registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        families[name] = tuple(
            label for label in (family.samples[0].labels if family.samples else {}) if label not in ("le", "quantile")
        )
    return families


@every_document
def test_metrics_exist(name: str) -> None:
    """Every metric a document names is one of ours, with the labels it names."""
    families = metric_families()
    for span in code_spans(text_of(name)):
        if found := re.fullmatch(rf"({PREFIX}\w+)(?:\{{([\w,]+)\}})?", span):
            assert found[1] in families, span
            if found[2]:
                assert families[found[1]] == tuple(found[2].split(",")), span


def test_metrics_are_all_told() -> None:
    """README.md names every metric, and each outcome of a check that this version can count."""
    text = section(text_of("README.md"), "Metrics, log, audit trail")
    assert set(metric_families()) == set(re.findall(rf"`({PREFIX}\w+)", text))
    assert {*OUTCOMES} - {"bearer"} == {outcome for outcome in OUTCOMES if f"`{outcome}`" in text}


@every_readme
def test_audit_events_are_told(name: str) -> None:
    """Every event that this version writes into the trail is named; those of later versions are not."""
    events = set(json.loads(text_of("config/audit.schema.json"))["properties"]["event"]["enum"])
    spans = set(code_spans(text_of(name)))
    assert events - {"situation", "admin"} == events & spans


# -- SECURITY.md -----------------------------------------------------------------------------------------------------------------


def named_tests(text: str) -> list[tuple[str, str]]:
    """(file below tests/, function) of every `file.py::test_name`."""
    return re.findall(r"`([\w/]+\.py)::(test_\w+)`", text)


def functions_of(path: Path) -> set[str]:
    """Every function and method that a file defines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, kinds)}


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table, without heads."""
    lines = [line for line in text.splitlines() if line.startswith(("| ", "|---"))]
    heads = {at - 1 for at, line in enumerate(lines) if line.startswith("|---")}
    kept = (line for at, line in enumerate(lines) if at not in heads and not line.startswith("|---"))
    return [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in kept]


def test_tests_of_the_security_document_exist() -> None:
    """A threat that names a test which is not there would be guarded by nothing."""
    named = named_tests(text_of("SECURITY.md"))
    assert len(named) > 150
    functions = {file: functions_of(ROOT / "tests" / file) for file in {file for file, _ in named}}
    assert [] == [f"{file}::{name}" for file, name in named if name not in functions[file]]
    assert len(named) == text_of("SECURITY.md").count("::test_")


def test_every_threat_has_a_test() -> None:
    """Seven boundaries, each a table; no row without a test."""
    model = section(text_of("SECURITY.md"), "Threat model")
    assert 7 == model.count("\n### ")
    assert all(len(row) == 3 and named_tests(row[2]) for row in rows(model))


def test_every_advisory_has_a_test_or_a_reason() -> None:
    """What befell others is tried here, or it is said why it cannot happen."""
    found = rows(section(text_of("SECURITY.md"), "Advisories of others"))
    assert len(found) > 60
    for row in found:
        assert 3 == len(row), row
        assert named_tests(row[2]) or row[2].startswith("Cannot "), row


def test_guards_taken_out_are_there() -> None:
    """Ten guards, each a line that stands in the code where the table says, each with the tests that miss it."""
    found = rows(section(text_of("SECURITY.md"), "Ten guards taken out"))
    assert 10 <= len(found)
    for file, function, line, red in found:
        path = ROOT / "forward_auth" / file.strip("`")
        nodes = [
            node
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function.strip("`")
        ]
        lines = path.read_text("utf-8").splitlines()
        assert any(line.strip("`") in " ".join(lines[node.lineno - 1 : node.end_lineno]) for node in nodes), line
        assert named_tests(red), line


def test_floors_are_explained() -> None:
    """Each dependency with its floor, as pyproject.toml asks for it, and why."""
    asked = tomllib.loads(text_of("pyproject.toml"))["project"]["dependencies"]
    told = rows(section(text_of("SECURITY.md"), "Floors of the dependencies"))
    assert sorted(asked) == sorted(f"{name}>={floor}" for name, floor, why in told if why)


# -- the rest --------------------------------------------------------------------------------------------------------------------


def test_figures_have_their_place() -> None:
    """What `make bench` prints goes between two marks of README.md, once."""
    assert ["begin", "end"] == re.findall(r"^<!-- figures: (begin|end) -->$", text_of("README.md"), re.MULTILINE)


def test_licence_is_one() -> None:
    """pyproject.toml, LICENSE and README.md name the same licence."""
    declared = tomllib.loads(text_of("pyproject.toml"))["project"]["license"]
    assert text_of("LICENSE").startswith(f"{declared} License")
    assert f"[{declared}](LICENSE)" in text_of("README.md")
