"""Faults of the wire: slow, silent, cut, huge, not what was promised. They know nothing of what the answer means.

For: every endpoint alike. `before` may answer in the endpoint's place, `after` may spoil the honest answer. Refuses: to touch an
answer while no fault is on.
"""

import asyncio
import json
import socket
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

from aiohttp import web

from . import pages
from .faults import AFTER, BEFORE, Faults

_MIB: Final = 1024 * 1024
_ERRORS: Final = {"error_500": 500, "error_503": 503, "error_404": 404, "error_429": 429}
_BODIES: Final = {
    "not_json": b'{"error": ',
    "empty_body": b"",
    "list": b"[]",
    "null": b"null",
    "string": b'"tokens"',
}


def _on(faults: Faults, places: tuple[str, ...], names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """(fault, value) of those that are on for one of the places, counting each as used."""
    for name in names:
        for place in places:
            value = faults.take(f"{place}.{name}")
            if value is not None:
                yield name, value


async def before(faults: Faults, places: tuple[str, ...], request: web.Request) -> web.StreamResponse | None:
    """The answer of a fault that replaces the endpoint's; None: the endpoint answers."""
    if not faults.any():
        return None
    for name, value in _on(faults, places, BEFORE):
        if name == "slow":
            await asyncio.sleep(float(value))
            continue
        if name == "hang":
            await _hang(faults, request)
            return _hang_up(request)
        if name == "close":
            return _hang_up(request)
        if name == "reset":
            return _hang_up(request, reset=True)
        if name in ("huge", "endless", "gzip_bomb"):
            return await _flood(request, name, value)
        return _instead(name, value)
    return None


def _instead(name: str, value: Any) -> web.Response:
    if name == "redirect":
        return web.Response(status=302, headers={"Location": str(value)})
    if name == "html":
        return web.Response(text=pages.maintenance(), content_type="text/html")
    if name == "status" or name in _ERRORS:
        status = _ERRORS.get(name, 0) or int(value)
        if status in (503, 429):
            return web.Response(
                text=pages.maintenance(), content_type="text/html", status=status, headers={"Retry-After": "60"}
            )
        return web.json_response({"error": "unknown_error"}, status=status)
    if name == "deep":
        return _json(b'{"deep":' + b"[" * int(value) + b"]" * int(value) + b"}")
    if name == "body":
        return _json(str(value).encode())
    return _json(_BODIES[name])


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


async def _hang(faults: Faults, request: web.Request) -> None:
    """Until a fault is cleared, the client leaves, or the simulator stops (which cancels us)."""
    mark = faults.cleared
    while faults.cleared == mark and request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110 (polled: other threads clear faults too)
        await asyncio.sleep(0.02)


def _hang_up(request: web.Request, *, reset: bool = False) -> web.Response:
    """Closes the connection. What is returned goes nowhere."""
    if request.transport is not None:
        if reset:
            raw = request.transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()


async def _flood(request: web.Request, name: str, value: Any) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    if name == "gzip_bomb":
        response.headers["Content-Encoding"] = "gzip"
        await response.prepare(request)
        for chunk in _bomb(int(value)):
            await response.write(chunk)
            await asyncio.sleep(0)
    else:
        total = int(value) if name == "huge" else None
        if total is not None:
            response.content_length = total
        await response.prepare(request)
        sent = 0
        chunk = b'{"padding":"' + b"x" * _MIB
        while total is None or sent < total:
            chunk = chunk if total is None else chunk[: total - sent]
            await response.write(chunk)
            sent += len(chunk)
            chunk = b"x" * _MIB
            await asyncio.sleep(0)
    await response.write_eof()
    return response


def _bomb(size: int) -> Iterator[bytes]:
    """A gzip stream (RFC 1952) of a JSON string of `size` bytes, one block of 1 MiB repeated."""
    start, end = b'{"padding":"', b'"}'
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    yield b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    check, length = zlib.crc32(start), len(start)
    plain = b"x" * _MIB
    block = packer.compress(plain) + packer.flush(zlib.Z_FULL_FLUSH)
    while length < size:
        yield block
        check, length = zlib.crc32(plain, check), length + _MIB
    check, length = zlib.crc32(end, check), length + len(end)
    yield packer.compress(end) + packer.flush() + struct.pack("<II", check, length & 0xFFFFFFFF)


async def after(
    faults: Faults, places: tuple[str, ...], request: web.Request, response: web.StreamResponse
) -> web.StreamResponse:
    """The honest answer, or what the faults make of it."""
    if not faults.any() or not isinstance(response, web.Response):
        return response
    for name, value in _on(faults, places, AFTER):
        body = response.body if isinstance(response.body, bytes) else b""
        if name == "lost":
            return _hang_up(request)
        if name in ("cut", "trickle"):
            return await _drip(request, response, body, None if name == "cut" else float(value))
        if name == "bom":
            response.body = b"\xef\xbb\xbf" + body
        elif name == "charset":
            response.body = body.decode().encode("utf-16")
        elif name == "content_type":
            response.content_type = str(value)
        elif name == "duplicate_keys":
            response.body = _twice(body)
    return response


def _twice(body: bytes) -> bytes:
    """The first member of an object twice: another value first, then the true one."""
    try:
        document = json.loads(body)
        name = next(iter(document))
    except (ValueError, TypeError, StopIteration):
        return body
    return b"{" + json.dumps(name).encode() + b':"another",' + body.lstrip()[1:]


async def _drip(request: web.Request, honest: web.Response, body: bytes, pause: float | None) -> web.StreamResponse:
    """Byte by byte with a pause; without one: half of it, then gone."""
    response = web.StreamResponse(
        status=honest.status, headers={"Content-Type": honest.headers.get("Content-Type", "")}
    )
    response.content_length = len(body)
    await response.prepare(request)
    if pause is None:
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return response
    for i in range(len(body)):
        await response.write(body[i : i + 1])
        await asyncio.sleep(pause)
    await response.write_eof()
    return response
