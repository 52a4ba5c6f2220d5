"""`psc-forward-auth simulator`: the pretend PSC as a program of its own, for integrators and the demonstration.

Refuses: arguments it cannot use (exit 2, one line), a port that is taken (exit 1, one line).
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from .people import FILE, PeopleError, people
from .realm import Client
from .server import Simulator


def _client(text: str) -> Client:
    client_id, _, rest = text.partition(":")
    secret, _, uris = rest.partition(":")
    if not (client_id and secret and uris):
        raise argparse.ArgumentTypeError("expected ID:SECRET:REDIRECT_URI[,URI…]")
    return Client(client_id, secret, tuple(uris.split(",")))


def _issuer(text: str) -> str:
    parts = urlsplit(text)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or text.endswith("/")
    ):
        raise argparse.ArgumentTypeError("expected http(s)://HOST[:PORT][/PATH], without a trailing slash")
    return text


def _notice(text: str) -> tuple[str, str]:
    client_id, equals, uri = text.partition("=")
    if not (client_id and equals and uri):
        raise argparse.ArgumentTypeError("expected ID=URI")
    return client_id, uri


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > 65535:
        raise argparse.ArgumentTypeError("not a port: write a number from 0 to 65535")
    return int(text)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see: {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = _Parser(
        prog="psc-forward-auth simulator",
        description="A pretend Pro Santé Connect. It is a simulator: never put it on the internet.",
    )
    made.add_argument("--port", type=_port, required=True, metavar="N", help="port to listen on (0: any free one)")
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    made.add_argument(
        "--issuer", type=_issuer, metavar="URL", help="default http://psc.localhost:PORT/auth/realms/esante-wallet"
    )
    made.add_argument("--people", type=Path, default=FILE, metavar="FILE", help="JSON: name -> {label, userinfo}")
    made.add_argument(
        "--client",
        type=_client,
        action="append",
        metavar="ID:SECRET:REDIRECT_URI[,URI…]",
        help="a declared service; repeatable",
    )
    made.add_argument(
        "--backchannel-logout",
        type=_notice,
        action="append",
        default=[],
        metavar="ID=URI",
        help="where a declared service wants to hear of sign-outs; repeatable",
    )
    made.add_argument(
        "--refresh-rotation", choices=("keep", "revoke"), default="keep", help="is an old refresh token still good?"
    )
    made.add_argument(
        "--ciba", choices=("ask", "approve", "deny"), default="ask", help="what becomes of CIBA requests by themselves"
    )
    return made


def main(argv: list[str]) -> int:
    """Runs until SIGTERM or SIGINT. `argv` without the command's own name. Returns the exit code: 0, 1 or 2."""
    try:
        said = parser().parse_args(argv)
    except SystemExit as ended:  # argparse has said why
        return ended.code if isinstance(ended.code, int) else 2
    try:
        persons = people(said.people)
    except PeopleError as error:
        print(f"simulator: {error}", file=sys.stderr)
        return 2
    clients: list[Client] | None = said.client
    if said.backchannel_logout:
        addresses = dict(said.backchannel_logout)
        unknown = set(addresses) - {client.client_id for client in clients or ()}
        if unknown:
            print(f"simulator: --backchannel-logout names no --client: {', '.join(sorted(unknown))}", file=sys.stderr)
            return 2
        clients = [
            Client(
                client.client_id,
                client.secret,
                client.redirect_uris,
                backchannel_logout_uri=addresses.get(client.client_id, ""),
            )
            for client in clients or ()
        ]
    simulator = Simulator(
        issuer=said.issuer,
        people=persons,
        clients=clients,
        host=said.host,
        port=said.port,
        refresh_rotation=said.refresh_rotation,
        ciba_auto="" if said.ciba == "ask" else said.ciba,
    )
    try:
        asyncio.run(_serve(simulator))
    except OSError as error:
        print(f"simulator: cannot listen on {said.host}:{said.port}: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


async def _serve(simulator: Simulator) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    await simulator.start()
    try:
        if simulator.realm.open:
            print(
                "simulator: no --client: any client id and any non-empty secret are accepted,"
                " with redirect URIs on localhost, *.localhost and *.example",
                file=sys.stderr,
                flush=True,
            )
        print(f"simulator: ready, not the real PSC: {simulator.discovery_url}", flush=True)
        await stop.wait()
    finally:
        await simulator.stop()
