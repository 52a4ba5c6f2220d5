"""What test_red.py works with: raw requests to a door, everything in an answer that a browser would follow, and two judges that are not ours.

The judges are the URL parsers of Chromium and of Node (both WHATWG URL; two programs, one text below). Refuses: to call anything good because our
own reading says so; a value that a judge cannot read is wrong.
"""

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any, NamedTuple, Self

from playwright.sync_api import Page
from proxies.wire import Heard, Wire

NODE = shutil.which("node")
# One row: [value, base] -> what a browser would ask for, and where it lets PSC send it back to.
JUDGE = """(rows) => rows.map(([value, base]) => {
  const read = (text, from) => {
    try { const url = new URL(text, from); return [url, [url.protocol + "//" + url.host, url.username + url.password, url.href]]; }
    catch { return [null, ["unreadable", "", text]]; }
  };
  const [url, first] = read(value, base);
  const back = url === null ? [] : [...url.searchParams].filter(([name]) => /^(post_logout_)?redirect_uri$/.test(name) && !url.pathname.startsWith("/psc/"));
  return [first, ...back.map(([, text]) => read(text, undefined)[1])];
})"""


_ANY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # whose certificate it is, is not what is looked at
_ANY.check_hostname = False
_ANY.verify_mode = ssl.CERT_NONE


class Emitted(NamedTuple):
    """Something of an answer that a browser would follow. `payload`: what was sent, `how`: where; `base`: the address that was asked."""

    family: str
    payload: str
    how: str
    value: str
    base: str


@dataclass
class Line:
    """A connection to a door that is kept while it lasts: a unix socket's path, or a TLS port of nginx on 127.0.0.1."""

    address: str | int
    name: str = ""
    _wire: Wire | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._wire is not None:
            self._wire.connection.close()
            self._wire = None

    def _open(self) -> Wire:
        if isinstance(self.address, str):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(15)
            sock.connect(self.address)
            return Wire(sock)
        plain = socket.create_connection(("127.0.0.1", self.address), timeout=15)
        return Wire(_ANY.wrap_socket(plain, server_hostname=self.name))

    def ask(
        self, method: str, target: bytes, headers: Iterable[tuple[str, str | bytes]], body: bytes | None = None
    ) -> Heard:
        """One request, byte for byte, and its answer."""
        lines = b"".join(
            b"%b: %b\r\n" % (name.encode(), value if isinstance(value, bytes) else value.encode())
            for name, value in headers
        )
        if body is not None:
            lines += b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n" % len(body)
        raw = b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method.encode(), target, lines, body or b"")
        for fresh in (self._wire is None, True):
            if self._wire is None:
                self._wire = self._open()
            try:
                self._wire.connection.sendall(raw)
                heard = self._wire.message(request=False)
            except OSError:
                heard = None
            if heard is not None:
                if b"close" in [value.lower() for value in heard.all("Connection")]:
                    self._close()
                return heard
            self._close()
            assert not fresh, f"closed without an answer: {raw[:200]!r}"
        raise AssertionError("not reached")


class _Links(HTMLParser):
    """Everything in a page that a browser follows, by itself or by a click."""

    FOLLOWED = frozenset(
        {"href", "action", "src", "formaction", "data", "poster", "srcset", "ping", "cite", "background", "manifest"}
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        assert tag not in ("base", "script", "object", "embed"), f"a page of ours has <{tag}>"
        self.found += [value for name, value in attrs if name in self.FOLLOWED and value]
        if tag == "meta" and (named.get("http-equiv") or "").lower() == "refresh":
            self.found.append((named.get("content") or "").partition("=")[2])


def followed(heard: Heard) -> list[str]:
    """Location, Refresh, Link, and the links, forms and refreshes of the page."""
    found = [value.decode("latin-1") for name in ("Location", "Content-Location") for value in heard.all(name)]
    found += [value.decode("latin-1").partition("=")[2] for value in heard.all("Refresh")]
    assert not heard.all("Link")
    if any(b"text/html" in value for value in heard.all("Content-Type")):
        page = _Links()
        page.feed(heard.body.decode())
        found += page.found
    return found


def judged(page: Page, emitted: Iterable[Emitted]) -> list[tuple[Emitted, list[list[str]]]]:
    """Each value with what Chromium makes of it, and what Node does where it is on the machine."""
    several = list(emitted)
    rows = [[one.value, one.base] for one in several]
    seen: list[list[list[str]]] = page.evaluate(JUDGE, rows)
    if NODE is not None:
        program = f"process.stdout.write(JSON.stringify(({JUDGE})(JSON.parse(require('fs').readFileSync(0, 'utf8')))))"
        done = subprocess.run(
            [NODE, "-e", program], input=json.dumps(rows).encode(), capture_output=True, check=True, timeout=60
        )
        seen = [[*one, *other] for one, other in zip(seen, json.loads(done.stdout), strict=True)]
    return list(zip(several, seen, strict=True))


def wrong(verdicts: Iterable[tuple[Emitted, list[list[str]]]], allowed: Mapping[str, Any]) -> list[str]:
    """One line for each value that leads elsewhere. `allowed`: origin -> () for any address there, or the only addresses' beginnings."""
    lines = []
    for one, found in verdicts:
        for origin, user, href in found:
            only = allowed.get(origin)
            if user or only is None or (only and not href.startswith(tuple(only))):
                lines.append(f"{one.family} {one.how}: {one.payload!r} gave {one.value!r}, which leads to {href!r}")
    return lines
