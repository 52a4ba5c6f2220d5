"""The front step: the only file that sees argv, the environment, signals and the wall clock.

For: the commands of the public contract. Refuses: to print a traceback for a mistake of the operator's: one line on standard error, exit code 2
for wrong configuration or usage, 1 for what failed while running, 0 otherwise.
"""

import argparse
import asyncio
import contextlib
import gc
import io
import json
import os
import re
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from forward_auth import __version__
from forward_auth.errors import ConfigError, ForwardAuthError, StoreUnavailable

T = TypeVar("T")
DONE, FAILED, WRONG = 0, 1, 2
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110 §5.6.2


class Usage(Exception):
    """Wrong usage: the sentence is for the person at the terminal."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything here does; the usage is one --help away."""

    def error(self, message: str) -> NoReturn:
        _complain(f"{self.prog}: {message}; see: {self.prog} --help")
        raise SystemExit(WRONG)


def _complain(sentence: str) -> None:
    """One line on standard error, whatever was typed or stands in a file's name."""
    print("".join(c if c.isprintable() else ascii(c)[1:-1] for c in sentence), file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. -> exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that has no É gets \xc9, not a traceback
    try:
        code = _main(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # `… | head`: nobody reads on. That is no fault, and Python has nothing to say of it when it ends.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _main(argv: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["simulator"]:  # a program of its own; it knows nothing of us, nor we of it
        from forward_auth.simulator.command import main as simulator

        return simulator(arguments[1:])
    parser = _parser()
    parsed, rest = parser.parse_known_args(arguments)
    if rest:  # argparse gives up on ids that stand after an option
        if not hasattr(parsed, "which") or any(each.startswith("-") for each in rest):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        parsed.which.extend(rest)
    command: Callable[[argparse.Namespace], int] = parsed.command
    try:
        return command(parsed)
    except ConfigError as error:
        for mistake in error.mistakes:
            _complain(str(mistake))
        return WRONG
    except Usage as error:
        _complain(f"psc-forward-auth: {error}")
        return WRONG
    except ForwardAuthError as error:
        _complain(f"psc-forward-auth: {error.detail or error.code}")
        return WRONG if error.code in ("keys", "keys_exist") else FAILED
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="psc-forward-auth", description="Forward authentication with Pro Santé Connect.")
    parser.add_argument("--version", action="version", version=f"psc-forward-auth {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=run)
        return command

    serve = add("serve", _serve, "run the service: both doors")
    serve.add_argument("--config", type=Path, required=True, metavar="FILE")
    serve.add_argument("--check", action="store_true", help="only check the configuration, as check-config does")

    check = add("check-config", _check_config, "every mistake of a configuration at once")
    check.add_argument("file", type=Path, metavar="FILE")

    add("config-schema", _config_schema, "JSON Schema of the configuration, for editors")

    explain = add("explain", _explain, "the decision about one request of one person, and why, offline")
    explain.add_argument("--config", type=Path, required=True, metavar="FILE")
    explain.add_argument(
        "--person", required=True, metavar="PERSON", help="a userinfo JSON file, or a name of the simulator's people"
    )
    explain.add_argument("--json", action="store_true")
    explain.add_argument("method", metavar="METHOD")
    explain.add_argument("url", metavar="URL")

    sessions = add("sessions", _sessions, "live logins: list, show, end")
    sessions.add_argument("action", choices=["list", "show", "end"])
    sessions.add_argument("which", nargs="*", metavar="ID", help="ids (the first 8 digits do), or national ids")
    sessions.add_argument("--config", type=Path, required=True, metavar="FILE")
    sessions.add_argument("--json", action="store_true")
    sessions.add_argument("--national-id", action="append", default=[], metavar="NATIONAL_ID")
    sessions.add_argument("--all", action="store_true", help="with end: everybody")

    proxy = add("proxy-config", _proxy_config, "the exact text for a proxy, for this configuration")
    proxy.add_argument("kind", metavar="nginx|traefik")
    proxy.add_argument("--config", type=Path, required=True, metavar="FILE")
    proxy.add_argument("--app", metavar="NAME")
    proxy.add_argument(
        "--upstream",
        action="append",
        default=[],
        metavar="APP=URL",
        help="where an application listens, e.g. dossier=http://127.0.0.1:8080",
    )

    # Only for --help: main hands the whole command line over before it is read here.
    commands.add_parser("simulator", help="a pretend PSC, for trials and tests", add_help=False)

    keys = add("keys", _keys, "the key ring: new, list, rotate")
    keys.add_argument("action", choices=["new", "list", "rotate"])
    keys.add_argument("file", type=Path, metavar="FILE")
    keys.add_argument(
        "--drop-old", action="store_true", help="with rotate: drop every older key; everybody signs in again"
    )

    demo = add("demo", _demo, "the demonstration: simulator, service, nginx and two applications")
    demo.add_argument("--port", type=int, default=None, help="default: DEMO_PORT of the environment, or 8080")
    demo.add_argument(
        "--config",
        type=Path,
        default=None,
        metavar="FILE",
        help="another configuration than the shipped config/demo.toml",
    )
    return parser


def _load(path: Path) -> Any:
    from forward_auth.config import load

    return load(path, os.environ)


# -- serve -----------------------------------------------------------------------------------------------------------------------


def _serve(parsed: argparse.Namespace) -> int:
    if parsed.check:
        return _check(parsed.config)
    settings = _load(parsed.config)
    from forward_auth import logs

    logs.set_up(settings.log.format, settings.log.level)
    for warning in settings.warnings:
        _log().warning("%s", warning)
    _raise_file_limit()
    # A busy event loop must hand over to the store's threads often: with the default of 5 ms a point read can wait for a hundred checks.
    sys.setswitchinterval(0.0005)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve_until_told(settings, parsed.config))


def _log() -> Any:
    import logging

    return logging.getLogger("forward_auth.service")


def _raise_file_limit() -> None:
    """As many connections as the system lets us have; the doors have limits of their own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 65536), hard)
            )


async def _serve_until_told(settings: Any, path: Path) -> int:
    from forward_auth.clock import SteadyClock
    from forward_auth.listening import handed_down
    from forward_auth.service import Service

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    reload = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    handed = handed_down(os.environ, os.getpid())
    service = Service(settings, clock=SteadyClock(), node=socket.gethostname(), handed=handed)
    await service.start()
    # What was made until here lives as long as the process: the collector need not walk it at each full collection (p99).
    gc.collect()
    gc.freeze()
    # A login is some hundred objects, of which none is garbage: look for it less often.
    gc.set_threshold(10_000, 20, 20)
    waiting = asyncio.create_task(_reload_when_told(service, reload, path))
    await stop.wait()
    waiting.cancel()
    await service.stop()
    return DONE


async def _reload_when_told(service: Any, told: asyncio.Event, path: Path) -> None:
    log = _log()
    while True:
        await told.wait()
        told.clear()
        try:
            settings = await asyncio.to_thread(_load, path)
            kept = await service.reload(settings)
        except ConfigError as error:
            for mistake in error.mistakes:
                log.error("%s", mistake)
            log.error(
                "the configuration was not reloaded: it has %d mistakes; the old one stays in force",
                len(error.mistakes),
            )
        except ForwardAuthError as error:
            log.error("the configuration was not reloaded: %s; the old one stays in force", error.detail or error.code)
        except Exception:
            log.exception("the configuration was not reloaded; the old one stays in force")
        else:
            log.info(
                "the configuration was reloaded%s", f"; these keys need a restart: {', '.join(kept)}" if kept else ""
            )


# -- configuration ---------------------------------------------------------------------------------------------------------------


def _check_config(parsed: argparse.Namespace) -> int:
    return _check(parsed.file)


def _check(path: Path) -> int:
    settings = _load(path)
    keys_file = settings.server.keys_file
    if keys_file is not None and keys_file.exists():
        from forward_auth.sealing import read_ring

        read_ring(keys_file)
    for warning in settings.warnings:
        _complain(str(warning))
    print(f"{path}: ok, {len(settings.apps)} {'app' if len(settings.apps) == 1 else 'apps'}")
    return DONE


def _config_schema(parsed: argparse.Namespace) -> int:
    from forward_auth.config import schema

    print(json.dumps(schema(), indent=2, ensure_ascii=False))
    return DONE


def _proxy_config(parsed: argparse.Namespace) -> int:
    from forward_auth.proxy_config import proxy_config

    upstreams = dict(pair.split("=", 1) for pair in parsed.upstream if "=" in pair)
    if len(upstreams) != len(parsed.upstream):
        raise Usage("--upstream takes APP=URL, each app once")
    settings = _load(parsed.config)
    apps = [app.name for app in settings.apps]
    for name in upstreams:
        if name not in apps:
            raise Usage(f"--upstream {name}=…: no app has this name; these are: {', '.join(apps)}")
    print(proxy_config(parsed.kind, settings, parsed.app, upstreams=upstreams), end="")
    return DONE


def _explain(parsed: argparse.Namespace) -> int:
    from forward_auth.explain import explain, person_of
    from forward_auth.identity import IdentityError

    settings = _load(parsed.config)
    _askable(parsed.method, parsed.url)
    now = int(time.time())
    try:
        identity = person_of(_userinfo(parsed.person), settings, now)
    except IdentityError as error:
        raise Usage(f"{parsed.person}: not the userinfo of a professional: {error.detail or error.code}") from None
    explanation = explain(settings, identity, parsed.method, parsed.url, now)
    if parsed.json:
        print(json.dumps({"decision": explanation.decision, "why": list(explanation.lines)}, ensure_ascii=False))
    else:
        print(explanation.decision)
        for line in explanation.lines:
            print(line)
    return DONE


def _askable(method: str, url: str) -> None:
    """What no proxy could ask about is a slip of the keyboard, not a refusal. Raises Usage."""
    from forward_auth.original import read_origin

    if not _METHOD.fullmatch(method):
        raise Usage(f"{method}: not a method; write GET, POST, …")
    scheme, mark, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if not mark or read_origin(os.fsencode(scheme), os.fsencode(authority)) is None:
        raise Usage(f"{url}: not an absolute address with one scheme and one host; write https://HOST/PATH")


def _userinfo(person: str) -> dict[str, object]:
    """From a file, or from the simulator's people (a data file; its code is not ours to import)."""
    path = Path(person)
    try:
        if path.is_file():
            document = json.loads(path.read_text("utf-8"))
        else:
            people = json.loads(resources.files("forward_auth.simulator").joinpath("people.json").read_text("utf-8"))
            if person not in people:
                raise Usage(
                    f"{person}: neither a file nor one of the simulator's people; these are: {', '.join(sorted(people))}"
                )
            document = people[person]["userinfo"]
    except (OSError, ValueError, RecursionError) as error:
        raise Usage(f"{person}: not a userinfo JSON document ({type(error).__name__})") from None
    if not isinstance(document, dict):
        raise Usage(f"{person}: a userinfo document is a JSON object")
    return document


# -- sessions --------------------------------------------------------------------------------------------------------------------


def _sessions(parsed: argparse.Namespace) -> int:
    settings = _load(parsed.config)
    if settings.session.store == "memory:":
        raise Usage(
            "session.store is memory: nobody but the service itself can see its logins; use sqlite:/path to list and end them"
        )
    if parsed.action == "end" and not (parsed.which or parsed.national_id or parsed.all):
        raise Usage("sessions end: say which: ID …, --national-id NATIONAL_ID, or --all")
    path = Path(settings.session.store.partition(":")[2])
    if not path.exists():  # opening would make one, and list nobody
        raise StoreUnavailable("store", f"{path}: no store is there; is the service using this configuration?")
    return _run(_sessions_of(parsed, settings))


async def _sessions_of(parsed: argparse.Namespace, settings: Any) -> int:
    from forward_auth import session_commands
    from forward_auth.sealing import KeyRing, read_ring
    from forward_auth.stores.factory import open_store

    ring = KeyRing(read_ring(settings.server.keys_file))
    store = open_store(settings.session.store)
    await store.open()
    try:
        now = int(time.time())
        found = await session_commands.entries(store, ring, now)
        if parsed.action != "end":
            wanted = [*parsed.which, *parsed.national_id]
            chosen = [entry for entry in found if not wanted or _named(entry, wanted)]
            if parsed.action == "show" and not chosen:
                raise Usage("no live login of that id")
            session_commands.shown(chosen, as_json=parsed.json, say=print)
            return DONE
        people = {entry.listing.subject for entry in found if entry.listing}
        national_ids = [*parsed.national_id, *(which for which in parsed.which if which in people)]
        ids = [which for which in parsed.which if which not in people]
        try:
            ended = await session_commands.end(
                store, ring, settings, now, ids=ids, national_ids=national_ids, everyone=parsed.all
            )
        except ValueError as error:
            raise Usage(str(error)) from None
        _told(settings, found, ended)
        print(json.dumps({"ended": ended}) if parsed.json else f"ended {len(ended)}")
        return DONE if ended or parsed.all else FAILED
    finally:
        await store.close()


def _told(settings: Any, found: list[Any], ended: list[str]) -> None:
    """The audit trail hears of what an administrator ended, where it is a file; the service's standard output is not ours to write to."""
    from forward_auth.audit import Audit

    if not ended:
        return
    if settings.audit.file is None or not settings.audit.file.exists():
        # Made by us it might not be the service's to write, and then nobody could sign in.
        _complain(
            "psc-forward-auth: ended, but the audit trail has no file to write it to; note it where you keep such things"
        )
        return
    audit = Audit(settings.audit.file, required=False, clock=time.time, node=socket.gethostname(), stdout=False)
    audit.start()
    subjects = {entry.id: entry.listing.subject for entry in found if entry.listing}
    for login in ended:
        audit.write("ended", outcome="ended", cause="administrator", login=login, subject=subjects.get(login, ""))
    audit.stop()
    if audit.failing:
        _complain(f"psc-forward-auth: ended, but {audit.failing}")


def _named(entry: Any, wanted: list[str]) -> bool:
    subject = entry.listing.subject if entry.listing else None
    return any(
        which == subject or (len(which) >= 8 and entry.row.id.hex().startswith(which.lower())) for which in wanted
    )


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


# -- keys ------------------------------------------------------------------------------------------------------------------------


def _keys(parsed: argparse.Namespace) -> int:
    from forward_auth import sealing

    now = int(time.time())
    if parsed.action == "new":
        sealing.write_ring(parsed.file, [sealing.new_key(now)], replace=False)
        print(f"{parsed.file}: a new key ring with one key")
        return DONE
    keys = sealing.read_ring(parsed.file)
    if parsed.action == "rotate":
        keys = sealing.rotated(keys, now, keep=0 if parsed.drop_old else 24 * 3600)
        sealing.write_ring(parsed.file, keys, replace=True)
        print(f"{parsed.file}: a new first key; reload the service (SIGHUP) to use it")
    for key in keys:
        print(
            f"key {key.id}: made {_when(key.created)}, {'active' if key.retired is None else 'opens only, replaced ' + _when(key.retired)}"
        )
    return DONE


def _when(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))


# -- demo ------------------------------------------------------------------------------------------------------------------------


def _demo(parsed: argparse.Namespace) -> int:
    from forward_auth.demo import DemoError, run

    text = str(parsed.port) if parsed.port is not None else os.environ.get("DEMO_PORT") or "8080"
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise Usage(f"{text}: not a port; --port and DEMO_PORT take a number from 1 to 65535")
    port = int(text)
    try:
        return run(port, parsed.config, dict(os.environ))
    except DemoError as error:
        raise Usage(str(error)) from None
