"""The house has rooms, and the doors between them open one way (law): read from the imports with `ast`, not from good intentions.

cli → service → (inner, web) → sessions → (psc, stores) → hall. The hall knows no network and no clock. The simulator imports nothing of
ours. A module that fits in no room fails here, so that whoever adds one says where it belongs.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

import forward_auth

PACKAGE: Final = Path(forward_auth.__file__).parent

# What a check is made of, and what a configuration is made of: plain Python. "" is the package itself.
HALL: Final = (
    " errors secret original dialects identity nomenclature policy decision gate logins sealing headers cookies targets"
    " refusals metrics audit clock sites explain logs settings config config_environment config_files config_keys"
    " config_kinds config_reading toml_lines proxy_config"
)
ROOMS: Final[Mapping[str, str]] = {
    **dict.fromkeys(HALL.split(" "), "hall"),
    "psc": "psc",
    "stores": "stores",
    # What happens to a login between its beginning and its end: memory, store and PSC brought together.
    **dict.fromkeys(["sessions", "session_commands", "renewal"], "sessions"),
    "inner": "inner",
    "web": "web",
    **dict.fromkeys(["service", "listening"], "service"),
    "simulator": "simulator",
    "demo": "demo",
    **dict.fromkeys(["cli", "__main__"], "cli"),
}

# From each room, which others may be entered. inner needs neither sessions nor stores: it is given what it calls.
DOORS: Final[Mapping[str, frozenset[str]]] = {
    "hall": frozenset(),
    "psc": frozenset({"hall"}),
    "stores": frozenset({"hall"}),
    "sessions": frozenset({"psc", "stores", "hall"}),
    "inner": frozenset({"hall"}),
    "web": frozenset({"sessions", "psc", "stores", "hall"}),
    "service": frozenset({"inner", "web", "sessions", "psc", "stores", "hall"}),
    "simulator": frozenset(),
    "demo": frozenset({"web", "hall"}),
    "cli": frozenset({"service", "sessions", "stores", "hall", "demo", "simulator"}),
}

WIRES: Final = "aiohttp asyncio socket ssl selectors socketserver http httptools uvloop requests smtplib"
NETWORK: Final = frozenset(WIRES.split(" "))


def name_of(path: Path) -> str:
    """`psc.client` for forward_auth/psc/client.py, `psc` for its __init__, "" for that of the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES: Final[Mapping[str, ast.Module]] = {
    name_of(path): ast.parse(path.read_text("utf-8"), str(path)) for path in sorted(PACKAGE.rglob("*.py"))
}
FILES: Final[Mapping[str, Path]] = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module: str) -> str:
    return ROOMS[module.split(".")[0]]


def imported(tree: ast.AST, inside: str) -> Iterator[str]:
    """Full dotted names of all that is imported anywhere in it, also inside functions: `a.b.c` for `from a.b import c`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{_source(node, inside)}.{each.name}" for each in node.names)


def _source(node: ast.ImportFrom, inside: str) -> str:
    """The full name of what is imported from, dots in front resolved."""
    if not node.level:
        return node.module or ""
    package = f"forward_auth.{inside}".split(".")
    steps = node.level - (FILES[inside].name == "__init__.py")
    return ".".join([*package[: len(package) - steps], *([node.module] if node.module else [])])


def ours(tree: ast.AST, inside: str) -> set[str]:
    """Modules of the package that it imports, as in TREES."""
    found = set()
    for name in imported(tree, inside):
        top, _, rest = name.partition(".")
        if top == "forward_auth":
            while rest not in TREES:  # the last part may be a function or a class
                rest = rest.rpartition(".")[0]
            found.add(rest)
    return found


def modules(*rooms: str) -> list[str]:
    return [module for module in TREES if room_of(module) in rooms]


# -- the arrows ----------------------------------------------------------------------------------------------------------


def test_every_module_has_its_room() -> None:
    """Whoever adds a file says here what it may know; and no room is named that is not there."""
    tops = {module.split(".")[0] for module in TREES}
    assert tops == set(ROOMS)
    assert set(ROOMS.values()) == set(DOORS)


@pytest.mark.parametrize("module", TREES)
def test_imports_run_one_way(module: str) -> None:
    """Law of the architecture, module by module."""
    here = room_of(module)
    wrong = [other for other in ours(TREES[module], module) if room_of(other) not in DOORS[here] | {here}]
    assert [] == wrong, f"{module} ({here}) may not import {wrong}"


def test_nothing_goes_round_in_a_circle() -> None:
    """Between modules, at import time: whatever is imported is whole (imports inside functions come later and do not count)."""

    class AtImport(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment] # noqa: N815 - the name is ast's

        def visit_If(self, node: ast.If) -> ast.If | None:
            return None if getattr(node.test, "id", None) == "TYPE_CHECKING" else node

    arrows = {
        module: ours(AtImport().visit(ast.parse(FILES[module].read_text("utf-8"))), module) - {module, ""}
        for module in TREES
    }
    while arrows:
        leaves = {module for module, targets in arrows.items() if not targets & arrows.keys()}
        assert leaves, f"a circle among {sorted(arrows)}"
        arrows = {module: targets for module, targets in arrows.items() if module not in leaves}


def test_the_simulator_is_an_independent_witness() -> None:
    """It imports nothing of ours, and only the command line (and the demonstration) starts it."""
    inside = modules("simulator")
    assert all(ours(TREES[module], module) <= set(inside) for module in inside)
    users = {module for module in TREES if ours(TREES[module], module) & set(inside)} - set(inside)
    assert users <= {"cli", "demo"}


@pytest.mark.parametrize("module", modules("hall"))
def test_the_hall_has_no_network_and_never_waits(module: str) -> None:
    """No aiohttp, no asyncio, no socket, and not a single `await`."""
    assert not {name.split(".")[0] for name in imported(TREES[module], module)} & NETWORK
    assert "urllib.request" not in {name.rpartition(".")[0] for name in imported(TREES[module], module)}
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not [node.lineno for node in ast.walk(TREES[module]) if isinstance(node, waiting)]


@pytest.mark.parametrize("module", modules("inner"))
def test_the_inner_door_knows_no_aiohttp(module: str) -> None:
    """It parses with llhttp and answers bytes."""
    assert "aiohttp" not in {name.split(".")[0] for name in imported(TREES[module], module)}


@pytest.mark.parametrize("module", modules("psc"))
def test_psc_speaks_and_never_serves(module: str) -> None:
    """`aiohttp.web` is the outer door's; only client.py and wire.py see aiohttp at all."""
    names = set(imported(TREES[module], module))
    assert not [name for name in names if name.startswith("aiohttp.web")]
    assert module in ("psc.client", "psc.wire") or not [name for name in names if name.startswith("aiohttp")]


# -- time ----------------------------------------------------------------------------------------------------------------

CLOCKS: Final = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}


@pytest.mark.parametrize("module", [*modules("hall", "stores"), "psc.messages", "psc.tokens", "psc.keys"])
def test_time_is_given(module: str) -> None:
    """No clock is read below the front step; clock.py holds the machine's and calls what it was given."""
    read = [
        node.lineno
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id, node.func.attr) in CLOCKS
    ]
    assert [] == read
    assert "time.time" not in set(imported(TREES[module], module))


# -- who may say what ----------------------------------------------------------------------------------------------------

OIDC: Final = re.compile(
    r"\b(client_id|client_secret|redirect_uri|response_type|response_mode|code_challenge|code_challenge_method|code_verifier"
    r"|id_token_hint|post_logout_redirect_uri|acr_values|prompt|nonce|scope|grant_type|login_hint|binding_message)\b"
)


def spelt(tree: ast.Module) -> list[tuple[int, str]]:
    """OIDC parameters in string and bytes literals (docstrings aside) and as names of keyword arguments."""
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    found = []
    for node in ast.walk(tree):
        text: object = ""
        if isinstance(node, ast.Constant) and id(node) not in documentation:
            text = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
        elif isinstance(node, ast.keyword):
            text = node.arg or ""
        if isinstance(text, str):
            found += [(getattr(node, "lineno", 0), each) for each in OIDC.findall(text)]
    return found


@pytest.mark.parametrize(
    "module",
    modules("web"),
)
def test_the_outer_door_spells_no_oidc_parameter(module: str) -> None:
    """Law: how PSC is spoken to is psc/'s own."""
    assert [] == spelt(TREES[module])


def makers(what: str) -> list[tuple[str, str]]:
    """(module, function) of every place that calls `what(...)`, by that name or by an attribute of that name."""
    found = []
    for module, tree in TREES.items():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                for node in ast.walk(function):
                    if isinstance(node, ast.Call) and what in (
                        getattr(node.func, "id", None),
                        getattr(node.func, "attr", None),
                    ):
                        found.append((module, getattr(function, "name", "lambda")))
    return found


def test_one_function_makes_an_allow() -> None:
    """Law (architecture §8). Nor is the class renamed, subclassed, taken as a value to be called elsewhere, or copied into another."""
    assert [("gate", "_allow")] == makers("Allow")
    calls = sum(
        isinstance(node, ast.Call) and "Allow" in (getattr(node.func, "id", None), getattr(node.func, "attr", None))
        for tree in TREES.values()
        for node in ast.walk(tree)
    )
    assert 1 == calls  # none outside a function either
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert not [each for each in node.names if each.name == "Allow" and each.asname], module
            elif isinstance(node, ast.ClassDef):
                assert "Allow" not in [getattr(base, "id", None) for base in node.bases], module
            elif isinstance(node, ast.Assign):
                assert not isinstance(node.value, ast.Name) or node.value.id != "Allow" or module == "decision", module
            elif isinstance(node, ast.Call):
                given = [*node.args, *(each.value for each in node.keywords)]
                values = [each.id for each in given if isinstance(each, ast.Name)]
                assert "Allow" not in values or getattr(node.func, "id", None) == "isinstance", module


# -- the shape of a file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", TREES)
def test_every_module_says_what_it_is_for(module: str) -> None:
    """In its first lines; a stranger reads those."""
    assert ast.get_docstring(TREES[module])


@pytest.mark.parametrize(
    "module",
    TREES,
)
def test_no_file_is_too_long_to_read(module: str) -> None:
    """A thousand lines at most."""
    assert len(FILES[module].read_text("utf-8").splitlines()) <= 1000


def test_the_protocol_of_the_inner_door_stays_small() -> None:
    """Our own code beats a library only while it can be read in one sitting."""
    assert len(FILES["inner.protocol"].read_text("utf-8").splitlines()) <= 330
