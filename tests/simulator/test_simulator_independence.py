"""The simulator is an independent witness: nothing of ours is imported in its folder."""

import ast
import sys
from pathlib import Path

import forward_auth.simulator

FOLDER = Path(forward_auth.simulator.__file__).parent
ALLOWED = {"aiohttp", "cryptography", "jwt"}


def _imports(tree: ast.AST):
    """(level, top name) of every import, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, (node.module or "").split(".")[0]


def test_imports_nothing_of_ours():
    """Only the standard library, aiohttp, cryptography, PyJWT, and its own folder by one dot."""
    files = sorted(FOLDER.rglob("*.py"))
    assert len(files) > 5
    for file in files:
        for level, name in _imports(ast.parse(file.read_text())):
            if level == 0:
                assert name in ALLOWED or name in sys.stdlib_module_names, f"{file.name} imports {name}"
            assert level <= 1, f"{file.name} climbs out of its folder"
