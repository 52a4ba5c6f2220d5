"""One trial: the tests of a module, in a process of their own, with a mutant in the module's place.

For: telling whether a test notices. The process is a fork of one that has loaded every library and nothing of ours, so it is fresh and soon there.
Refuses: to take an error of the trial for a kill: no test found, or a wrong command line, ends everything.
"""

import gc
import importlib
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

import hypothesis
import pytest

ROOT: Final = Path(__file__).resolve().parents[2]


class _Instead(MetaPathFinder, Loader):
    def __init__(self, name: str, code: CodeType, path: Path) -> None:
        self.name, self.code, self.path = name, code, path

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        return ModuleSpec(name, self, origin=str(self.path)) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self.path)
        exec(self.code, module.__dict__)


class _Few:
    """The same few examples each time, and none made smaller: that something fails is enough."""

    def __init__(self, examples: int) -> None:
        self.examples = examples

    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        for item in items:
            for owner, name in (
                (getattr(item, "obj", None), "_hypothesis_internal_use_settings"),
                (getattr(item, "cls", None), "settings"),
            ):
                asked = getattr(owner, name, None)
                if isinstance(asked, hypothesis.settings):
                    few = hypothesis.settings(
                        asked,
                        max_examples=min(asked.max_examples, self.examples),
                        derandomize=True,
                        database=None,
                        deadline=None,
                        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
                    )
                    setattr(getattr(owner, "__func__", owner), name, few)


def trial(
    module: str, code: CodeType | None, tests: Sequence[str], examples: int, seconds: float, say: bool = False
) -> tuple[str, float]:
    """-> `killed`, `lives` or `slow` (too slow: killed as well), and how long it took. code None: the module as it is."""
    began = time.monotonic()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            os.setsid()
            status = _child(module, code, tests, examples, say)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    watched = os.pidfd_open(pid)
    ended = select.select([watched], [], [], seconds)[0]
    os.close(watched)
    try:
        os.killpg(pid, signal.SIGKILL)  # what the tests started goes with them
    except ProcessLookupError:
        pass
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    took = time.monotonic() - began
    if not ended:
        return "slow", took
    if status in (4, 5, 70):
        raise RuntimeError(f"the trial of {module} with {tests} could not be held (pytest: {status})")
    return "lives" if status == 0 else "killed", took


def _child(module: str, code: CodeType | None, tests: Sequence[str], examples: int, say: bool) -> int:
    if not say:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
    assert not any(name.split(".")[0] == "forward_auth" for name in sys.modules), (
        "a fresh process knows nothing of ours"
    )
    if code is not None:
        sys.meta_path.insert(0, _Instead(module, code, ROOT / (module.replace(".", "/") + ".py")))
    status = pytest.main(
        ["-x", "-q", "-p", "no:cacheprovider", "--disable-plugin-autoload", "--no-header", *tests],
        plugins=[_Few(examples)],
    )
    return int(status)


def load_libraries(names: Iterable[str]) -> None:
    """Load once what every trial needs."""
    for name in names:
        importlib.import_module(name)
    gc.freeze()  # a fork that collects would copy all of it
