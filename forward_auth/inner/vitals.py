"""/metrics, /livez, /readyz: what Prometheus and probes ask of the inner door.

For: three small answers. Refuses: to stand on a check's address, to answer by User-Agent (CVE-2026-34457), to name a person.
"""

import json
from collections.abc import Callable, Mapping
from typing import Final

from forward_auth.dialects import Answer, Page

_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


def _page(status: bytes, content_type: str, body: bytes) -> Page:
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
    return Page(head % (status, content_type.encode(), len(body)), body)


class Vital:
    """One of the three: `make() -> (ok, content type, body)`."""

    observable = True

    def __init__(self, make: Callable[[], tuple[bool, str, bytes]]) -> None:
        self._make = make

    def again(self, head: object, target: bytes, ticket: bytes | None) -> bytes | None:
        """Never: a probe is in no hurry."""
        return None

    def reading(self, headers: Mapping[bytes, bytes], ticket: bytes | None) -> None:
        """Nothing that would be worth remembering."""
        return

    def failed(self) -> None:
        """The log line says it; these are not counted as checks."""
        return

    def serve(self, headers: Mapping[bytes, bytes], doubled: object) -> Answer:
        ok, content_type, body = self._make()
        return _page(b"200 OK" if ok else b"503 Service Unavailable", content_type, body)


def metrics(render: Callable[[], bytes]) -> Vital:
    return Vital(lambda: (True, _TEXT, render()))


def livez() -> Vital:
    """The event loop turns: that is all it says."""
    return Vital(lambda: (True, "text/plain; charset=utf-8", b"ok\n"))


def readyz(state: Callable[[], tuple[bool, Mapping[str, str]]]) -> Vital:
    """200 when ready, 503 when not; the body names each part and, where it is not "ok", the sentence to read."""

    def make() -> tuple[bool, str, bytes]:
        ready, parts = state()
        document = {"ready": ready, "parts": dict(parts)}
        return ready, "application/json", json.dumps(document, ensure_ascii=True).encode() + b"\n"

    return Vital(make)
