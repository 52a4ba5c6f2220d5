"""The connection: names of this machine, TLS that is never taken on trust, the way out through a proxy."""

import asyncio
import base64
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import token_forge as forge
import trustme
from pretend_psc import HOME, SUB, House, Pretend, house

from forward_auth.psc import wire
from forward_auth.psc.wire import Resolver, is_local, make_session, tls_context
from forward_auth.secret import Secret

# -- names ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("psc.localhost", True),
        ("a.b.localhost.", True),
        ("xlocalhost", False),
        ("localhost.example", False),
        ("evil.example", False),
        ("", False),
    ],
)
def test_names_of_this_machine(name: str, local: bool) -> None:
    """RFC 6761 §6.3: localhost and what is below it."""
    assert local == is_local(name)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (socket.AF_UNSPEC, ["127.0.0.1", "::1"]),
        (socket.AF_INET, ["127.0.0.1"]),
        (socket.AF_INET6, ["::1"]),
    ],
)
def test_local_names_need_no_DNS(family: socket.AddressFamily, expected: list[str]) -> None:
    """They are loopback, whatever the machine's resolver says; the order is that of most servers."""
    found = asyncio.run(Resolver().resolve("psc.localhost", 8080, family))
    assert expected == [result["host"] for result in found]
    assert {8080} == {result["port"] for result in found}


def test_other_names_are_asked_of_the_system() -> None:
    """An address stands for itself; an unknown name is an OSError, which the client understands."""
    found = asyncio.run(Resolver().resolve("127.0.0.1", 443, socket.AF_INET))
    assert [("127.0.0.1", 443)] == [(result["host"], result["port"]) for result in found]
    with pytest.raises(OSError, match=r".+"):
        asyncio.run(Resolver().resolve("does-not-exist.invalid", 443))


# -- TLS --------------------------------------------------------------------------------------------------------------------------


def test_tls_is_verified_and_recent() -> None:
    """Certificate and name are checked, 1.2 at least; the system's authorities, or those of the file alone."""
    context = tls_context(None)
    assert (ssl.CERT_REQUIRED, True, ssl.TLSVersion.TLSv1_2) == (
        context.verify_mode,
        context.check_hostname,
        context.minimum_version,
    )


def test_an_unreadable_ca_file(tmp_path: Path) -> None:
    """Fails when the session is made, not at the first sign-in."""
    (tmp_path / "bad.pem").write_text("no certificate")
    for path in (tmp_path / "missing.pem", tmp_path / "bad.pem"):
        with pytest.raises(OSError, match=r".+"):
            tls_context(path)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """A TLS server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The hospital's own authority."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    """Its certificate in a file."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def test_a_private_authority(authority: trustme.CA, ca_file: Path) -> None:
    """ca_file makes a PSC behind a private authority acceptable, sign-in included."""

    async def main() -> None:
        pretend = Pretend(tls=server_context(authority.issue_cert("psc.localhost")))
        async with house(pretend, ca_file=ca_file) as found:
            assert found.psc.ready
            who = await found.psc.redeem("code", forge.VERIFIER, forge.NONCE)
            assert SUB == who.id_claims.sub

    asyncio.run(main())


async def trouble(pretend: Pretend, **members: object) -> str:
    """What the client says of a PSC it does not trust; nothing must have been asked of it."""
    async with house(pretend, **members) as found:
        assert not found.psc.ready
        assert [] == pretend.seen
        return found.psc.trouble


def test_IDP_10_certificates_that_do_not_hold(authority: trustme.CA, ca_file: Path) -> None:
    """Unknown authority, wrong name, expired, TLS 1.0 and 1.1: no request is sent, and the reason can be read."""

    async def main() -> None:
        stranger = trustme.CA().issue_cert("psc.localhost")
        assert "tls" in await trouble(Pretend(tls=server_context(stranger)), ca_file=ca_file)
        assert "tls" in await trouble(Pretend(tls=server_context(authority.issue_cert("psc.localhost"))))
        other = authority.issue_cert("other.localhost")
        assert "Hostname mismatch" in await trouble(Pretend(tls=server_context(other)), ca_file=ca_file)
        past = datetime.now(UTC) - timedelta(days=1)
        expired = authority.issue_cert("psc.localhost", not_before=past - timedelta(days=1), not_after=past)
        assert "expired" in await trouble(Pretend(tls=server_context(expired)), ca_file=ca_file)
        old = server_context(authority.issue_cert("psc.localhost"))
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSVersion"):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        assert await trouble(Pretend(tls=old), ca_file=ca_file)  # the reason depends on which side gives up first

    asyncio.run(main())


def test_IDP_10_tls_expected_and_none_spoken(ca_file: Path) -> None:
    """A server without TLS at an https address gets nothing either."""

    async def main() -> None:
        pretend = Pretend()
        await pretend.start()
        await pretend.stop()
        issuer = pretend.issuer.replace("http:", "https:")
        assert "tls" in await trouble(pretend, ca_file=ca_file, issuer=issuer)

    asyncio.run(main())


# -- proxy ------------------------------------------------------------------------------------------------------------------------


class Proxy:
    """A forward proxy of a few lines: CONNECT and absolute requests; wants these credentials when there are any."""

    def __init__(self, credentials: str | None = None) -> None:
        self.credentials = credentials
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.split("\r\n")
        headers = dict(field.split(": ", 1) for field in fields if field)
        method, target, _ = line.split(" ")
        self.asked.append(f"{method} {target}")
        if self.credentials is not None:
            wanted = "Basic " + base64.b64encode(self.credentials.encode()).decode()
            if headers.get("Proxy-Authorization") != wanted:
                writer.write(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                return
        port = int(target.rsplit(":", 1)[1]) if method == "CONNECT" else urlsplit(target).port
        behind, onward = await asyncio.open_connection("127.0.0.1", port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            parts = urlsplit(target)
            kept = [field for field in fields if field and not field.startswith(("Proxy-", "Connection"))]
            rest = await reader.readexactly(int(headers.get("Content-Length", "0")))
            onward.write(
                "\r\n".join([f"{method} {parts.path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode("latin-1")
            )
            onward.write(rest)
        ways = [asyncio.ensure_future(copy(reader, onward)), asyncio.ensure_future(copy(behind, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        onward.close()


async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Bytes one way until the end."""
    with contextlib.suppress(OSError):
        while piece := await source.read(65_536):
            target.write(piece)
            await target.drain()


@contextlib.asynccontextmanager
async def proxied(proxy: Proxy, pretend: Pretend, **members: object) -> AsyncIterator[House]:
    """A house whose way out is this proxy."""
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    async with server:
        proxy.port = server.sockets[0].getsockname()[1]
        async with house(pretend, http_proxy=f"http://127.0.0.1:{proxy.port}", **members) as found:
            yield found


def test_out_through_a_proxy_with_tls(authority: trustme.CA, ca_file: Path) -> None:
    """https goes through CONNECT with the proxy's credentials, which PSC never sees; TLS is verified end to end."""

    async def main() -> None:
        proxy = Proxy("user:pass:word")
        pretend = Pretend(tls=server_context(authority.issue_cert("psc.localhost")))
        async with proxied(proxy, pretend, ca_file=ca_file, http_proxy_auth=Secret("user:pass:word")) as found:
            assert found.psc.ready
            await found.psc.redeem("code", forge.VERIFIER, forge.NONCE)
            assert {f"CONNECT psc.localhost:{pretend.port}"} == set(proxy.asked)
            assert not [one for one in pretend.requests if "Proxy-Authorization" in one.headers]

    asyncio.run(main())


def test_out_through_a_proxy_without_tls() -> None:
    """A PSC on this machine (http) through a proxy: the credentials go to the proxy in each request."""

    async def main() -> None:
        proxy = Proxy("user:password")
        async with proxied(proxy, Pretend(), http_proxy_auth=Secret("user:password")) as found:
            assert found.psc.ready
            await found.psc.redeem("code", forge.VERIFIER, forge.NONCE)
            assert f"POST {found.pretend.issuer}/protocol/openid-connect/token" in proxy.asked
            assert 1 == found.pretend.count(HOME + "/token")

    asyncio.run(main())


def test_a_proxy_without_credentials() -> None:
    """None configured, none sent."""

    async def main() -> None:
        async with proxied(Proxy(), Pretend()) as found:
            assert found.psc.ready

    asyncio.run(main())


def test_a_proxy_that_refuses_us(authority: trustme.CA, ca_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """407 is named as the proxy's answer; the password is not in the log."""

    async def main() -> None:
        pretend = Pretend(tls=server_context(authority.issue_cert("psc.localhost")))
        async with proxied(
            Proxy("user:right"), pretend, ca_file=ca_file, http_proxy_auth=Secret("user:wrong-marker")
        ) as found:
            assert not found.psc.ready
            assert "proxy: the proxy answered 407" in found.psc.trouble

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
    assert "wrong-marker" not in caplog.text
    assert base64.b64encode(b"user:wrong-marker").decode() not in caplog.text


def test_the_environment_s_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY and its relatives are not read (decision 38)."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def main() -> None:
        async with house() as found:
            assert found.psc.ready

    asyncio.run(main())


def test_the_session_keeps_to_its_limits() -> None:
    """One session, bounded connections, no cookies, no environment."""

    async def main() -> None:
        async with make_session(SimpleNamespace(ca_file=None)) as http:
            assert not http.trust_env
            assert 0 == len(http.cookie_jar)
            assert (wire.TOTAL_SECONDS, wire.CONNECT_SECONDS) == (http.timeout.total, http.timeout.connect)
            assert http.connector is not None
            assert wire.MOST_CONNECTIONS == http.connector.limit

    asyncio.run(main())
