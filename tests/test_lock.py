"""The locked packages: none below the version that closed a known hole, each with its hashes, and none that we would have to explain.

For: threats §1.4, by name. A floor belongs to whatever brings the package in: it holds for the three lock files and for what is installed
here. Refuses: to be satisfied by a floor in pyproject.toml alone, which says nothing of what is built from the lock.
"""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Final

import aiohttp.http_parser
import pytest

ROOT: Final = Path(__file__).parents[1]
LOCKS: Final = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock", "requirements-fuzz.lock")
RUN: Final = "requirements.lock"

# Package -> (lowest version, what was mended in it).
FLOORS: Final = {
    "pyjwt": ("2.15.0", "forged HS256, allow-list bypass, floods of the key set, a recursion that crashed"),
    "authlib": ("1.9.0", "CVE-2026-114617: a token that switched off its own nonce check"),
    "joserfc": ("1.8.0", "NaN and booleans as dates, payloads that are no object"),
    "aiohttp": ("3.14.4", "request smuggling: CVE-2026-69243, CVE-2026-111750"),
    "cryptography": ("46", "an OpenSSL that is maintained"),
    "jinja2": ("3.1.6", "sandbox and attribute escapes, CVE-2025-27516"),
    "redis": ("4.5.4", "CVE-2023-28858: the answer of another client"),
}
# Another reader of tokens beside the ones we test would be another set of holes.
UNWANTED: Final = frozenset({"python-jose", "jwcrypto", "jwt", "pycrypto", "itsdangerous", "requests-oauthlib"})
_LINE: Final = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]*)(?:\[[a-z0-9,]*\])?==(?P<version>[^\s;\\]+)(?: ;[^\\]*)? \\")


def locked(name: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """package -> (version, hashes); fails on a line that is none of ours."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    package = ""
    for line in (ROOT / name).read_text().splitlines():
        if line.startswith("    --hash="):
            at, hashes = found[package]
            found[package] = (at, (*hashes, line.strip().removeprefix("--hash=").rstrip(" \\")))
        elif not line.lstrip().startswith("#"):
            match = _LINE.fullmatch(line)
            assert match is not None, f"{name}: {line!r} pins nothing"
            package = match["name"]
            assert package not in found
            found[package] = (match["version"], ())
    return found


def number(text: str) -> tuple[int, ...]:
    """A version that can be compared; a pre-release, which none of ours is, fails."""
    assert re.fullmatch(r"\d+(\.\d+)*", text), f"{text} is no plain release"
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_pinned_with_its_hashes(name: str) -> None:
    """An exact version and at least one SHA-256 each; no address of an index; nothing fetched from elsewhere."""
    packages = locked(name)
    assert packages
    for package, (_, hashes) in packages.items():
        assert hashes, package
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), package
        assert len(set(hashes)) == len(hashes)
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^(-e|-i|-f|--index|--extra-index|--find-links|--trusted-host)", text, re.MULTILINE)


@pytest.mark.parametrize("name", LOCKS)
def test_no_floor_is_undercut(name: str) -> None:
    """Each package that has a floor is at or above it wherever it is locked, and none is there that has no business with tokens."""
    packages = locked(name)
    for package, (floor, why) in FLOORS.items():
        if package in packages:
            at = packages[package][0]
            assert number(at) >= number(floor), f"{package} {at} in {name} is below {floor}: {why}"
    assert not UNWANTED & packages.keys()


def test_every_floor_is_in_force() -> None:
    """What the program runs with is in the lock and installed here in that very version; pyproject.toml asks for no less than the floor."""
    packages = locked(RUN)
    asked = {
        re.split(r"[>=<\[ ]", line)[0]: line.partition(">=")[2]
        for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    assert asked.keys() <= packages.keys()
    for package, (floor, _) in FLOORS.items():
        if package in packages:
            assert number(version(package)) == number(packages[package][0])
        if package in asked:
            assert number(asked[package]) >= number(floor)
    assert {"pyjwt", "authlib", "joserfc", "aiohttp", "cryptography", "jinja2"} <= packages.keys()


def test_all_locks_agree() -> None:
    """What is tested is what runs: a package stands in every lock with one version and the same hashes."""
    tested = locked("requirements-dev.lock")
    for name in (RUN, "requirements-build.lock"):
        for package, pin in locked(name).items():
            assert pin == tested[package], (name, package)


def test_the_parser_of_aiohttp_is_the_one_in_c() -> None:
    """CVE-2026-111750: the pure Python parser reads requests otherwise than proxies do."""
    assert aiohttp.http_parser.HttpRequestParser is not aiohttp.http_parser.HttpRequestParserPy
