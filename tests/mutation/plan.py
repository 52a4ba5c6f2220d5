"""What is mutated, which tests should notice, and which mutants somebody has looked at and let live (survivors.toml)."""

import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from mutants import Mutant, mutants
from trial import ROOT

SURVIVORS: Final = Path(__file__).parent / "survivors.toml"
SAMPLES: Final = ("inner/test_inner_samples.py",)
# The tests of each module: the nearest first, then, for who outlives them, those who use it.
PLAN: Final[Mapping[str, Sequence[Sequence[str]]]] = {
    "gate": [("hall/test_gate.py",), ("hall/test_sites.py", *SAMPLES)],
    "policy": [("hall/test_policy.py",), ("hall/test_gate.py", "hall/test_explain.py")],
    "original": [("hall/test_original.py",), ("hall/test_policy.py", "hall/test_dialects.py")],
    "dialects": [("hall/test_dialects.py",), SAMPLES],
    "logins": [("hall/test_logins.py",), ("hall/test_gate.py",)],
    "sealing": [("hall/test_sealing.py",), ("hall/test_gate.py",)],
    "psc/messages": [("psc/test_psc_messages.py",), ("psc/test_psc_client.py",)],
    "psc/keys": [("psc/test_psc_keys.py",), ("psc/test_psc_tokens.py",)],
}

Name = tuple[str, str, str, str]  # module, function, text of the line, change


def of(module: str) -> Iterator[tuple[Name, Mutant]]:
    for mutant in mutants((ROOT / f"forward_auth/{module}.py").read_text("utf-8")):
        yield (module, mutant.function, mutant.line, mutant.change), mutant


def listed(modules: Collection[str]) -> set[Name]:
    """The survivors that somebody has looked at."""
    entries = tomllib.loads(SURVIVORS.read_text("utf-8")).get("survivor", [])
    for entry in entries:
        if entry["kind"] not in ("equivalent", "may live") or not entry["reason"]:
            raise SystemExit(
                f"{SURVIVORS.name}: {entry['change']}: wants a reason, and «equivalent» or «may live» as its kind"
            )
    return {(e["module"], e["function"], e["line"], e["change"]) for e in entries if e["module"] in modules}
