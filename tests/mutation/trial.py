"""One trial: the tests of a module, in a process of their own, with a mutant in the module's place.

For: telling whether a test notices. The process is a fork of one that has loaded every library and nothing of ours, so it is fresh and soon there.
Refuses: to take an error of the trial for a kill: no test found, or a wrong command line, ends everything.
"""

import gc
import importlib
import inspect
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import hypothesis
import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
EXAMPLES: Final = (20, 100)  # of a generated test: of the nearest tests, of the others


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


class _Collected:
    """Tests that are collected once: each mutant of a function's body is put there in a fork, which then runs them."""

    def __init__(self, module: str, source: str, codes: Mapping[int, CodeType], seconds: float) -> None:
        self.path, self.whole, self.codes, self.seconds = _path(module), compile(source, "", "exec"), codes, seconds
        self.killed: set[int] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> bool | None:
        functions = [each for each in gc.get_objects() if isinstance(each, FunctionType)]
        live = {each.__qualname__: each for each in functions if each.__code__.co_filename == self.path}
        before = dict(_parts(self.whole))
        for number, code in self.codes.items():
            changed = {name: part for name, part in _parts(code) if before[name] != part}
            if not changed.keys() <= live.keys():
                continue  # a line outside of functions
            pid = os.fork()
            if pid == 0:
                _limited(self.seconds)
                for name, part in changed.items():
                    live[name].__code__ = part
                return None  # to the tests
            if _watched(pid, self.seconds) in (1, 2, -signal.SIGKILL, -signal.SIGXCPU):
                self.killed.add(number)
        return True


def _parts(code: CodeType) -> Iterator[tuple[str, Any]]:
    """The functions of a module, and of its classes; and what is outside of them, under a name that is no function's."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    outside = [each.co_qualname if isinstance(each, CodeType) else (type(each), each) for each in code.co_consts]
    yield f"{code.co_qualname} {code.co_firstlineno}", (code.co_code, code.co_names, outside)
    for each in inner:
        if each.co_flags & inspect.CO_OPTIMIZED:
            yield each.co_qualname, each
        else:
            yield from _parts(each)


def quick(module: str, source: str, codes: Mapping[int, CodeType], tests: Sequence[str], seconds: float) -> set[int]:
    """-> the numbers of those that are surely killed; all others want a trial. To be called in a process of its own."""
    here = os.getpid()
    held = _Collected(module, source, codes, seconds)
    status = 70
    try:
        status = _run(tests, [_Few(EXAMPLES[0]), held])
    finally:
        if os.getpid() != here:
            os._exit(status)
    if status not in (0, 5):
        raise RuntimeError(f"the tests {tests} could not be collected (pytest: {status})")
    return held.killed


def trial(
    module: str, code: CodeType | None, tests: Sequence[str], examples: int, seconds: float
) -> tuple[bool, float]:
    """-> whether a test noticed (or never ended), and how long it took. In a fresh process; code None: the module as it is."""
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            _limited(seconds)
            assert "forward_auth" not in sys.modules, "a fresh process knows nothing of ours"
            if code is not None:
                sys.meta_path.insert(0, _Instead(module, code, Path(_path(module))))
            status = _run(tests, [_Few(examples)])
        finally:
            os._exit(status)
    status = _watched(pid, seconds)
    if status in (4, 5, 70):
        raise RuntimeError(f"the trial of {module} with {tests} could not be held (pytest: {status})")
    return status != 0, time.monotonic() - began


def _run(tests: Sequence[str], plugins: Sequence[object]) -> int:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    return int(
        pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--disable-plugin-autoload", *tests], plugins=plugins)
    )


def _limited(seconds: float) -> None:
    """This process is its own session's, and ends when it has worked, not waited, for so long: a machine that is busy is no mistake."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))


def _watched(pid: int, seconds: float) -> int:
    """The exit status of that process; -SIGKILL when it took too long. What it started goes with it."""
    descriptor = os.pidfd_open(pid)
    select.select([descriptor], [], [], 60 + 10 * seconds)
    os.close(descriptor)
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _path(module: str) -> str:
    return str(ROOT / module.replace(".", "/")) + ".py"


def load_libraries(names: Iterable[str]) -> None:
    """Load once what every trial needs."""
    for name in names:
        importlib.import_module(name)
    gc.freeze()  # a fork that collects would copy all of it
