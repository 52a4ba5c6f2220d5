"""Where a browser may be sent back to: an address is believed only when its origin is one of ours, byte for byte.

For: reading `to=` strictly and writing the Location it becomes. Refuses: every address whose authority could be read in two ways (user
info, backslash, white space, controls, other scheme, other port, look-alike host), so that no browser and no URL library disagrees with us
(RED-01 … RED-12; CVE-2020-5233, CVE-2020-11053, CVE-2021-21291). Nothing is resolved against anything: an address is absolute or refused.
"""

import re
from collections.abc import Collection
from typing import Final, NamedTuple
from urllib.parse import unquote

from forward_auth.dialects import LONGEST_TARGET
from forward_auth.original import fold, read_authority, read_path

# The authority may hold only what a registered name, an IPv6 literal and a port hold; what follows begins with / ? or #.
_SHAPE: Final = re.compile(rb"(?P<scheme>https?)://(?P<authority>[A-Za-z0-9.:\[\]-]+)(?P<rest>[/?#].*)?", re.DOTALL)
_IN_PATH: Final = re.compile(rb"[^!#$%&'()*+,\-./0-9:;=?@A-Z\[\]^_`a-z{|}~]")
_IN_QUERY: Final = re.compile(rb"[^!#$%&'()*+,\-./0-9:;=?@A-Z\[\\\]^_`a-z{|}~]")


class Target(NamedTuple):
    """An address we may redirect to. `location`: ASCII, ready for the header; `origin`: canonical; `hostname`: without port."""

    location: str
    origin: str
    hostname: str


def read_to(raw: bytes, origins: Collection[str], *, prefix: str, own_pages: Collection[str] = ()) -> Target | None:
    """`raw`: the address after one percent-decoding. None when its origin is not in `origins`.

    Comes back byte-identical, except that what a header cannot hold (controls, spaces, non-ASCII, quotes, a backslash in the path) is
    percent-encoded. Longer than LONGEST_TARGET, or below `prefix` (a loop) and not one of `own_pages`: the origin's `/`.
    """
    found = _SHAPE.fullmatch(raw)
    if found is None:
        return None
    scheme = found["scheme"].decode()
    authority = read_authority(found["authority"], scheme)
    if authority is None or f"{scheme}://{authority}" not in origins:
        return None
    origin = f"{scheme}://{authority}"
    hostname = hostname_of(origin)
    rest = found["rest"] or b"/"
    if not rest.startswith(b"/"):
        rest = b"/" + rest
    path = re.split(rb"[?#]", rest, maxsplit=1)[0]
    reading = read_path(path)
    ours = prefix.casefold() + "/"
    # A malformed path (`/%zz/../psc/start`) has no reading of ours, but a browser asks for it all the same.
    folded = fold(unquote(path.decode("latin-1")) if reading is None else reading.folded) + "/"
    # A browser resolves `/x/../psc/start` before it asks: with dot segments about, our prefix anywhere leads to us.
    below = folded.startswith(ours) or ((reading is None or reading.ambiguous) and ours in folded)
    written = _IN_PATH.sub(_escaped, path) + _IN_QUERY.sub(_escaped, rest[len(path) :])
    # As written, too: it has to fit into the cookie of the sign-in.
    too_long = max(len(raw), len(origin) + len(written)) > LONGEST_TARGET
    if too_long or (below and path.decode("latin-1") not in own_pages):
        return Target(origin + "/", origin, hostname)
    return Target(origin + written.decode("ascii"), origin, hostname)


def hostname_of(origin: str) -> str:
    """`https://a.example:8443` -> `a.example`; `http://[::1]:80` -> `[::1]`."""
    authority = origin.partition("://")[2]
    host, colon, port = authority.rpartition(":")
    return host if colon and port.isdigit() and not host.endswith(":") else authority


def _escaped(byte: re.Match[bytes]) -> bytes:
    return b"%%%02X" % byte[0][0]
