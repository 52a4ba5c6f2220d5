"""A hand for tests: does at the simulator, over real HTTP, what a browser and a person would. Blocking."""

import http.client
import ssl
from urllib.parse import urlencode, urlsplit


def follow(url: str, choice: dict[str, str] | None, *, port: int, tls: bool, cookies: dict[str, str] | None) -> str:
    """Opens the authorization URL (posting the choice, if any) and returns where the browser is sent.

    The connection goes to 127.0.0.1:`port`, the Host header says what the URL says. `cookies`: read and written.
    Raises RuntimeError when the browser is not sent anywhere.
    """
    parts = urlsplit(url)
    target = f"{parts.path or '/'}?{parts.query}"
    headers = {"Host": parts.netloc}
    if cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    body = None
    if choice is not None:
        body = urlencode(choice)
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection: http.client.HTTPConnection
    if tls:
        # Our own loopback listener, whose certificate the test made: nothing is proved by checking it here.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST" if body is not None else "GET", target, body=body, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if cookies is not None:
        for line in answer.headers.get_all("Set-Cookie") or ():
            name, _, value = line.split(";", 1)[0].partition("=")
            cookies[name] = value
    location = answer.headers.get("Location")
    if location is None:
        raise RuntimeError(f"PSC answered {answer.status} without sending the browser back: {text[:200]!r}")
    return location
