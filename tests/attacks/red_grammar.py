"""The grammar of redirect attacks: each family is a few alternatives in a row, and every way through them is a payload.

For: test_red.py. `payloads(here, stranger)` makes all of them for one application of ours (its origin) and one host that is not ours. Refuses:
chance; the same call makes the same payloads, so that a wrong one can be found again by its family and text.
"""

from collections.abc import Iterator
from itertools import product
from urllib.parse import quote, urlsplit

# What some parser somewhere drops, trims, or takes for a separator.
BLANKS = ("\t", "\n", "\r", "\v", "\f", "\0", " ", "\x1f", "\x7f", "\u00a0", "\u2028", "\u3000", "\ufeff", "\u00ad")
SCHEMES = ("https", "http", "HtTpS")
SEPARATORS = (":", ":/", ":\\", ":\\\\", ":/\\", ":\\/", ":///", ":////", "://\\")
OTHER_SCHEMES = (
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:msgbox(1)",
    "blob:{evil}/1",
    "file:///etc/passwd",
    "intent://{host}#Intent;scheme=https;end",
    "about:blank",
    "view-source:{evil}/",
    "ftp://{host}/",
    "ws://{host}/",
    "mailto:a@{host}",
)


def spelled(text: str, times: int) -> str:
    """Every byte as %XX, then the percent signs again, `times` in all."""
    once = "".join(f"%{byte:02X}" for byte in text.encode())
    for _ in range(times - 1):
        once = once.replace("%", "%25")
    return once


def red_01(here: str, evil: str) -> Iterator[str]:
    """No scheme: two slashes or more."""
    tails = ("", "/", "/%2f..", "/..", "?x", "#x", f"@{urlsplit(here).netloc}", ":443/x")
    yield from ("/" * count + evil + tail for count, tail in product(range(2, 7), tails))


def red_02(here: str, evil: str) -> Iterator[str]:
    """A backslash that browsers read as a slash."""
    for length in (1, 2, 3):
        for marks in product("/\\", repeat=length):
            if "\\" in marks:
                yield "".join(marks) + evil
                yield here + "".join(marks) + evil
    yield from (f"{lead}{evil}" for lead in ("/./\\", "/.\\", "/%5c", "\\%5c", "/x/..\\\\", "/%5C/", ".\\\\", "\\.\\"))


def red_03(here: str, evil: str) -> Iterator[str]:
    """A scheme, and less or more than two slashes behind it."""
    ours = urlsplit(here).netloc
    yield from (scheme + mark + host for scheme, mark, host in product(SCHEMES, SEPARATORS, (evil, ours)))


def red_04(here: str, evil: str) -> Iterator[str]:
    """White space and controls where somebody drops them, as they are and percent-encoded once more."""
    ours = urlsplit(here).netloc
    shapes = (
        f"{{}}https://{evil}/",
        f"/{{}}/{evil}",
        f"//{{}}{evil}",
        f"https:{{}}//{evil}",
        f"https://{ours}{{}}.{evil}/",
        f"{here}/{{}}//{evil}",
    )
    for shape, blank in product(shapes, BLANKS):
        yield shape.format(blank)
        yield shape.format(quote(blank))
    for end in ("\r\n", "\n", "\r", "%0d%0a", "%0a", "\u560a", "\u010a"):
        yield f"{here}/{end}Location: https://{evil}/"
        yield f"{here}{end}Location: https://{evil}/"
        yield f"{here}/{end}{end}<script>location='https://{evil}'</script>"


def red_05(here: str, evil: str) -> Iterator[str]:
    """Encoded once, twice, three times."""
    for start, times in product(("//", "/\\", "https://", "\\\\", "/..//", "//user@"), (1, 2, 3)):
        yield spelled(start, times) + evil
        yield "/" + spelled(start, times) + evil
    for dots in ("..", "%2e%2e", ".%2e", "%252e%252e"):
        yield f"/{dots}//{evil}"
        yield f"{here}/{dots}//{evil}"
        yield f"{here}/x/{dots}/{dots}/{dots}//{evil}/"
    yield spelled(here, 1)
    yield "https%3A//" + evil


def red_06(here: str, evil: str) -> Iterator[str]:
    """User information, and what makes a host of ours into it."""
    ours = urlsplit(here).netloc
    for between in ("@", ":443@", ":x@", "\\@", "%40", "%2f@", "%23@", "%3f@", "\t@", " @", "&@", ";@", "@@", "@x@"):
        yield f"https://{ours}{between}{evil}/"
        yield f"https://{evil}{between}{ours}/"
    yield from (f"https://{user}@{ours}/" for user in ("", "user", "user:pw", ":", ":pw", "%00", evil, evil + ":443"))
    yield from (f"{here}{mark}@{evil}" for mark in ("#", "?", "/", "/#", "/?", ";", "\\"))


def red_07(here: str, evil: str) -> Iterator[str]:
    """Other schemes, in disguise."""
    for scheme in OTHER_SCHEMES:
        plain = scheme.format(host=evil, evil="https://" + evil)
        name, _, rest = plain.partition(":")
        yield plain
        yield f"{name.swapcase()}:{rest}"
        yield f"{name[:4]}\n{name[4:]}:{rest}"
        yield f"\x01{plain}"
        yield f"{name[:4]}%0a{name[4:]}:{rest}"
        yield f"{name}:{here}/{rest}"


def red_08(here: str, evil: str) -> Iterator[str]:
    """Hosts that only begin, or only end, like ours."""
    host = urlsplit(here).hostname or ""
    tail = here.rpartition(host)[2]
    registered = ".".join(host.split(".")[-2:])
    ends = (
        ".",
        "%2e",
        "%00.",
        "%23.",
        "%5c.",
        "\\.",
        ";",
        "&",
        ",",
        "$",
        "!",
        "_",
        "-",
        "..",
        "%",
        "'",
        "*",
        "~",
        "|",
        "`",
        "{",
        "\u3002",
        "\uff0e",
        "\uff61",
        "\uff0f",
        "\u2044",
        "%ef%bc%8f",
    )
    yield from (f"https://{host}{end}{evil}{tail}/" for end in ends)
    yield from (f"https://{start}{host}{tail}/" for start in ("evil", "evil-", "x", f"{evil}.", "*.", "-", "%2e", "."))
    yield from (
        f"https://{other}{tail}/" for other in (registered, f"evil{registered}", f"x.{registered}", host[1:], host[:-1])
    )


def red_09(here: str, evil: str) -> Iterator[str]:
    """Another port, another scheme, an address in another notation, letters that look alike."""
    parts = urlsplit(here)
    host, port = parts.hostname or "", parts.port or 443
    yield from (
        f"https://{host}:{number}/"
        for number in (
            "",
            "0",
            "1",
            "443",
            "80",
            "65536",
            f"0{port}",
            f"{port}0",
            f"+{port}",
            f"{port} ",
            "x",
            f"{port}:{port}",
        )
    )
    yield from (f"http://{host}{mark}/" for mark in ("", ":443", f":{port}"))
    notations = (
        "0x7f.1",
        "2130706433",
        "127.1",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[fe80::1%25lo]",
        "0",
        "[v1.x]",
        "①②⑦.0.0.1",
        "0x7f000001",
    )
    yield from (f"https://{notation}:{port}/" for notation in notations)
    for old, new in (
        ("o", "ο"),
        ("e", "е"),
        ("a", "а"),
        ("o", "ｏ"),
        ("s", "ß"),
        (".", "。"),
        ("i", "ı"),
        ("l", "ⅼ"),
        ("p", "%70"),
        ("d", "%64"),
        (host[0], "\U0001d41d"),
    ):
        yield f"https://{host.replace(old, new, 1)}:{port}/"
    yield f"https://xn--{host}:{port}/"
    yield f"https://〱{evil}/"


def red_10(here: str, evil: str) -> Iterator[str]:
    """Addresses of an application that is not configured here, and what a state or a code of another deployment would look like."""
    parts = urlsplit(here)
    for name in ("other", "www", "localhost", "admin", "psc"):
        yield f"https://{name}.{parts.netloc}/"
        yield f"https://{name}.hopital.example:{parts.port or 443}/psc/handoff?code={'A' * 43}"
    yield from (
        "A" * 200,
        "eyJhbGciOiJub25lIn0.eyJ0byI6Imh0dHBzOi8vZXZpbCJ9.",
        spelled(here, 1) + "%00",
        f"{evil}|{here}",
    )


def red_11(here: str, evil: str) -> Iterator[str]:
    """Raw request targets that look like a host. Put in the request line as they are, on every route."""
    for lead, tail in product(
        ("//", "///", "/\\", "\\\\", "/%2f", "/%5c", "/;/", "/.//", "/x/..//", "http://", "https://"),
        ("", "/", "/%2f.."),
    ):
        yield lead + evil + tail
    for route in ("start", "callback", "handoff", "sign-out", "signed-out", "session", "refused", "static", "nothing"):
        yield f"//{evil}/psc/{route}"
        yield f"/psc/{route}//{evil}/%2f.."
        yield f"/psc/{route}/..//{evil}"
        yield f"/psc//{evil}/{route}"
    yield from (f"/auth//{evil}", f"/auth/nginx//{evil}", f"//{evil}//auth/forward")


def red_12(here: str, evil: str) -> Iterator[str]:
    """Too long, and back to ourselves."""
    for size in (2001, 4096, 9000):
        yield f"{here}/" + "a" * (size - len(here) - 1)
    for page in ("start", "sign-out", "callback", "handoff", "signed-out"):
        question = f"/{page}?to=//{evil}"
        yield from (
            f"{here}{way}{question}"
            for way in (
                "/psc",
                "/PSC",
                "/%70sc",
                "/x/../psc",
                "/./psc",
                "//psc",
                "/x/%2e%2e/psc",
                "/x/..;/psc",
                "/%zz/../psc",
                "/x%/%2e%2e/%70sc",
                "/psc%2F..%2Fpsc",
                "/\\psc",
            )
        )


FAMILIES = {
    "RED-01": red_01,
    "RED-02": red_02,
    "RED-03": red_03,
    "RED-04": red_04,
    "RED-05": red_05,
    "RED-06": red_06,
    "RED-07": red_07,
    "RED-08": red_08,
    "RED-09": red_09,
    "RED-10": red_10,
    "RED-11": red_11,
    "RED-12": red_12,
}


def payloads(family: str, here: str, evil: str) -> list[str]:
    """All payloads of that family, each once, in order."""
    return list(dict.fromkeys(FAMILIES[family](here, evil)))
