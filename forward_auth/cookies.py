"""One cookie out of a raw header, one Set-Cookie line; both doors use it.

For: reading exactly our cookie and nothing else. Refuses: cookie jars, quoted values, folding of names, and a name that stands
twice: two tickets are no ticket (a sibling host may have tossed one of them; CVE-class COOK-04, COOK-05).
"""

from typing import Final

LARGEST: Final = 4096  # name and value; what browsers keep (RFC 6265bis §5.6)
LARGEST_HEADER: Final = 64 * 1024


class CookieNames:
    """The names of one installation: `__Host-` over https, bare over plain http (demonstration on localhost only)."""

    __slots__ = ("login_prefix", "secure", "ticket", "ticket_bytes")

    def __init__(self, *, secure: bool) -> None:
        self.secure = secure
        self.ticket = "__Host-psc" if secure else "psc"
        self.ticket_bytes = self.ticket.encode()
        self.login_prefix = self.ticket + "-login-"


def read_cookie(header: bytes | None, name: bytes) -> bytes | None:
    """The value of the one cookie of that exact name; None when it is absent, doubled, or shares its header with a comma list.

    header: the raw Cookie header, several lines joined with `; `. A Cookie header joined with commas by a proxy (seen at HAProxy
    with Lua and at Apache) does not have our name at a cookie's start (None), or has a comma in the value, which is no ticket's.
    """
    if header is None:
        return None
    start = header.find(name)
    if start < 0:
        return None
    # The road of nearly everybody: our name once, at the start of a cookie, followed by `=`.
    begin = start + len(name)
    if (
        header[begin : begin + 1] == b"="
        and header.find(name, begin) < 0
        and (start == 0 or header[start - 2 : start] == b"; ")
    ):
        end = header.find(b";", begin)
        return header[begin + 1 :] if end < 0 else header[begin + 1 : end]
    value: bytes | None = None
    for part in header.split(b";"):
        key, mark, rest = part.lstrip(b" \t").partition(b"=")
        if key == name and mark:
            if value is not None:
                return None
            value = rest
    return value


def read_cookies(header: bytes | None, prefix: bytes) -> dict[bytes, bytes | None]:
    """All cookies whose name starts with `prefix`; a doubled name has the value None."""
    found: dict[bytes, bytes | None] = {}
    if header is None or prefix not in header:
        return found
    for part in header.split(b";"):
        key, mark, rest = part.lstrip(b" \t").partition(b"=")
        if mark and key.startswith(prefix):
            found[key] = None if key in found else rest
    return found


def set_cookie(name: str, value: str, *, secure: bool, max_age: int | None = None) -> str:
    """One Set-Cookie value: host-only, HttpOnly, SameSite=Lax (Strict would lose the return from PSC), Path=/.

    max_age None: until the browser closes (shared ward PCs); 0: expire now.
    """
    line = f"{name}={value}; Path=/; HttpOnly; SameSite=Lax"
    if secure:
        line += "; Secure"
    if max_age is not None:
        line += f"; Max-Age={max_age}"
    return line
