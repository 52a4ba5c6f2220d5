"""The text `proxy-config` gives: one source with deploy/, right for the configuration, nothing that could inject."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
from proxies.nginx import DEPLOY, Nginx, binary, free_port
from proxies.staging import IDENTITY, allow, echo, page, refuse, sign_in
from proxies.wire import Client, Heard, Server, request

from forward_auth.errors import ConfigError
from forward_auth.headers import FIELDS, PROFILES, HeaderPlan
from forward_auth.policy import Require
from forward_auth.proxy_config import KINDS, LATER, deploy_files, proxy_config
from forward_auth.secret import Secret
from forward_auth.settings import (
    AppSettings,
    AuditSettings,
    HeaderSettings,
    Listener,
    LogSettings,
    Origin,
    PagesSettings,
    PSCSettings,
    RuleSettings,
    ServerSettings,
    SessionSettings,
    Settings,
)

UNIX = Listener("unix", Path("/run/psc-forward-auth/inner.sock"))
TCP = Listener("tcp", None, "127.0.0.1", 9400)
OUTER = Listener("tcp", None, "127.0.0.1", 9401)
RULE = RuleSettings(1, 0, ("/*",), None, False, Require(acr=("eidas1",)))


def an_app(name: str, *origins: Origin, headers: HeaderSettings | None = None) -> AppSettings:
    plan = headers or HeaderSettings("psc", "percent", {})
    return AppSettings(name, name, origins, (RULE,), plan, False, 1800, (), (), "redirect")


def settings(
    *apps: AppSettings,
    origin: Origin | None = None,
    inner: tuple[Listener, ...] = (UNIX, TCP),
    outer: Listener = OUTER,
    prefix: str = "/psc",
) -> Settings:
    """A whole configuration, as config.py would make it."""
    return Settings(
        psc=PSCSettings(
            "bas",
            "https://i.example",
            "",
            "c",
            Secret("s" * 32),
            "client_secret_basic",
            None,
            "openid scope_all",
            ("eidas1",),
            "SubjectNameID",
            True,
            None,
            None,
        ),
        server=ServerSettings(
            origin or Origin("https", "auth.hopital.example"), outer, inner, (), (), None, prefix, None
        ),
        session=SessionSettings(1800, 14400, "memory:"),
        headers=HeaderSettings("psc", "percent", {}),
        pages=PagesSettings("fr", "", "", None),
        audit=AuditSettings(None, True, True),
        log=LogSettings("json", "info"),
        apps=apps or (an_app("dossier", Origin("https", "dossier.hopital.example")),),
        warnings=(),
        path=Path("psc.toml"),
    )


def words(text: str) -> list[str]:
    """The directives, one a line, without comments and indentation."""
    lines = (line.strip() for line in text.splitlines())
    return [line.split(" #")[0].rstrip() for line in lines if line and not line.startswith("#")]


def test_deploy_is_what_its_source_makes() -> None:
    """Every generated file of deploy/ stands there exactly as its source makes it; `python deploy/regenerate.py` mends this."""
    spec = importlib.util.spec_from_file_location("regenerate", DEPLOY / "regenerate.py")
    assert spec is not None
    assert spec.loader is not None
    regenerate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(regenerate)
    for name, text in regenerate.everything().items():
        assert text == (DEPLOY / name).read_text(encoding="utf-8"), name


def test_every_deployed_proxy_file_has_a_source() -> None:
    """Nobody adds a file below deploy/nginx or deploy/traefik by hand that no test would compare."""
    made = {*deploy_files(), "nginx/down.html"}
    found = {
        str(path.relative_to(DEPLOY))
        for kind in ("nginx", "traefik")
        for path in (DEPLOY / kind).rglob("*")
        if path.is_file()
    }
    assert {name for name in made if not name.startswith("docker/")} == found


@pytest.mark.parametrize("name", [name for name in deploy_files() if name.endswith((".conf", ".yml"))])
def test_every_file_says_what_it_is_for(name: str) -> None:
    """The first two lines say what the file is for and what must be changed."""
    first, second = deploy_files()[name].splitlines()[:2]
    assert first.startswith("# PSC Forward Auth")
    assert second.startswith("# To change: ")


def test_one_file_says_what_the_files_say() -> None:
    """For the example's hosts the single file of `proxy-config nginx` has the directives of deploy/nginx, no more and no less."""
    files = deploy_files()

    def included(text: str) -> list[str]:
        found = []
        for line in words(text):
            if line.startswith("include psc-forward-auth/"):
                found += included(files["nginx/" + line.removeprefix("include psc-forward-auth/").rstrip(";")])
            else:
                found.append(line)
        return found

    together = [
        line
        for name in ("psc-forward-auth.conf", "sites/auth.conf", "sites/dossier.conf")
        for line in included(files[f"nginx/{name}"])
    ]
    assert sorted(together) == sorted(words(proxy_config("nginx", settings())))


def test_no_word_of_the_template_is_left() -> None:
    """Nothing of the template language stands in a text."""
    for text in (*deploy_files().values(), *(proxy_config(kind, settings()) for kind in KINDS)):
        assert "@PREFIX@" not in text
        assert not [line for line in text.splitlines() if "@" in line and "@psc_" not in line]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_header_of_every_profile(profile: str) -> None:
    """Each identity header of the app's plan is read from the answer, and set (hence overwritten) for the application."""
    headers = HeaderSettings(profile, "percent", {"family_name": "X-Nom"})
    text = proxy_config("nginx", settings(an_app("one", Origin("https", "one.example"), headers=headers)))
    names = HeaderPlan(profile, "percent", {"family_name": "X-Nom"}).names
    assert "X-Nom" in names
    for name in names:
        variable = "$psc_app_" + name.lower().replace("-", "_")
        squeezed = [" ".join(line.split()) for line in words(text)]
        assert f"auth_request_set {variable} {variable.replace('psc_app_', 'upstream_http_')};" in squeezed
        assert f"proxy_set_header {name} {variable};" in squeezed


def test_one_location_with_identity_for_each_origin() -> None:
    """Every origin of every app has its own server block with the check; the origin has none."""
    text = proxy_config(
        "nginx",
        settings(
            an_app("a", Origin("https", "a.example"), Origin("https", "a2.example", 8443)),
            an_app("b", Origin("https", "b.example")),
        ),
        upstreams={"a": "http://10.0.0.1:80", "b": "https://b.internal:8443"},
    )
    assert 3 == text.count("auth_request /psc/nginx-check;")
    assert 2 == text.count("proxy_pass http://10.0.0.1:80;")
    assert 1 == text.count("proxy_pass https://b.internal:8443;")
    assert "listen 8443 ssl http2;" in words(text)
    assert "CHANGE:" not in text


def test_one_app_only() -> None:
    """--app gives that app and the origin; an unknown one is named, with those there are."""
    two = settings(an_app("a", Origin("https", "a.example")), an_app("b", Origin("https", "b.example")))
    text = proxy_config("nginx", two, "a")
    assert "server_name a.example;" in words(text)
    assert "server_name b.example;" not in words(text)
    with pytest.raises(ConfigError) as caught:
        proxy_config("nginx", two, "c")
    assert "one of: a, b" in str(caught.value.mistakes[0])


def test_app_on_the_origins_own_host() -> None:
    """One app on the origin's host: one server block, protected, with the outer door in it."""
    text = proxy_config("nginx", settings(an_app("one", Origin("https", "auth.hopital.example"))))
    assert 2 == text.count("server_name auth.hopital.example;")  # the redirect from port 80, and it
    assert 1 == text.count("auth_request /psc/nginx-check;")


@pytest.mark.parametrize("kind", LATER)
def test_not_in_this_version(kind: str) -> None:
    """A proxy that comes later says so."""
    with pytest.raises(ConfigError) as caught:
        proxy_config(kind, settings())
    assert "not in this version" in str(caught.value.mistakes[0])


def test_unknown_proxy() -> None:
    """A proxy nobody knows is refused with those there are."""
    with pytest.raises(ConfigError) as caught:
        proxy_config("iis", settings())
    assert "nginx, traefik" in str(caught.value.mistakes[0])


INJECTIONS = ["a;b", "a}b", "a{b", "a\nb", "a#b", 'a"b', "a$b", "a b", "a'b", "a\\b", "a`b", "a\rb", "a\x00b", "", "é"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", INJECTIONS)
def test_CFG_04_injection(kind: str, value: str) -> None:
    """No value can end a directive and begin another one, wherever it stands; config.py refused it before, here it is refused again."""
    wrong = [
        settings(an_app("one", Origin("https", value))),
        settings(origin=Origin("https", value)),
        settings(prefix="/" + value),
        settings(an_app(value, Origin("https", "one.example"))),
        settings(inner=(Listener("tcp", None, value + ";", 1),)),
        settings(outer=Listener("tcp", None, value + ";", 1)),
    ]
    if kind == "nginx":
        wrong.append(settings(inner=(Listener("unix", Path(f"/run/{value};/inner.sock")),)))
    for number, one in enumerate(wrong):
        with pytest.raises(ConfigError):
            assert proxy_config(kind, one) is None, number
    one = settings(an_app("one", Origin("https", "one.example")))
    for upstream in (
        f"http://{value};",
        f"http://a:{value}x",
        f"ftp://{value}",
        f"http://a/{value}x",
        f"http://unix:/{value};",
    ):
        with pytest.raises(ConfigError):
            proxy_config(kind, one, upstreams={"one": upstream})
    if kind == "nginx":
        for keyword in ("down_page", "certificates", "access_log"):
            with pytest.raises(ConfigError):
                proxy_config(kind, one, **{keyword: "/" + value})  # type: ignore[arg-type]  # a name of each in turn
        with pytest.raises(ConfigError):
            proxy_config(kind, one, listen=value + ";")
        with pytest.raises(ConfigError):
            proxy_config(kind, one, plain_hosts={value: "http://127.0.0.1:1"})


def test_traefik_needs_tcp() -> None:
    """Traefik reaches no unix socket: refused, with the line to write."""
    for one in (settings(inner=(UNIX,)), settings(outer=Listener("unix", Path("/run/o.sock")))):
        with pytest.raises(ConfigError) as caught:
            proxy_config("traefik", one)
        assert "127.0.0.1:940" in str(caught.value.mistakes[0])


def test_behind_another_tls_terminator() -> None:
    """TLS ends in front of this nginx: scheme and port are those of the origins, not those of this hop."""
    text = proxy_config("nginx", settings(), tls=False)
    squeezed = [" ".join(line.split()) for line in words(text)]
    assert "default https;" in squeezed
    assert 'default "$host";' in squeezed
    assert "listen 80;" in squeezed
    assert "ssl_certificate" not in text


def test_demonstration(tmp_path: Path) -> None:
    """All hosts on one port over plain http, in a real nginx: applications behind the check, the origin, and a host that is passed on."""
    if binary() is None:
        pytest.skip("nginx is not installed (Debian: apt install nginx)")
    port = free_port()

    def here(host: str) -> Origin:
        return Origin("http", host, port)

    def check(heard: Heard) -> bytes:
        hosts = {f"dossier.localhost:{port}": allow(), f"prescription.localhost:{port}": refuse()}
        return hosts.get((heard.one("X-Forwarded-Host") or b"").decode(), sign_in(None))

    with Server(check) as inner, Server(page) as outer, Server(echo) as app, Server(echo) as psc:
        configuration = settings(
            an_app("dossier", here("dossier.localhost")),
            an_app("prescription", here("prescription.localhost")),
            origin=here("auth.localhost"),
            inner=(Listener("tcp", None, "127.0.0.1", inner.port),),
            outer=Listener("tcp", None, "127.0.0.1", outer.port),
        )
        text = proxy_config(
            "nginx",
            configuration,
            listen=f"127.0.0.1:{port}",
            tls=False,
            upstreams={"dossier": f"http://127.0.0.1:{app.port}", "prescription": f"http://127.0.0.1:{app.port}"},
            plain_hosts={
                "psc.localhost": f"http://127.0.0.1:{psc.port}",
                "wallet.psc.localhost": f"http://127.0.0.1:{psc.port}",
            },
            down_page=f"{tmp_path}/down.html",
            access_log=f"{tmp_path}/access.log",
        )
        with Nginx(tmp_path, text, ports=[port]) as nginx:

            def ask(host: str, target: str = "/") -> Heard:
                with Client(port) as client:
                    return client.send(
                        request(target, f"{host}:{port}", [("Connection", "close"), ("Cookie", "psc=t; a=1")])
                    )

            assert (200, b"from the application") == (ask("dossier.localhost").status, ask("dossier.localhost").body)
            assert 403 == ask("prescription.localhost").status
            assert b"outer" == ask("auth.localhost", "/psc/session").one("X-Door")
            assert b"outer" == ask("dossier.localhost", "/psc/session").one("X-Door")
            assert 200 == ask("wallet.psc.localhost", "/auth").status
            assert ask("dossier.localhost").one("Strict-Transport-Security") is None
            assert "" == nginx.errors()
        seen = app.requests[0]
        assert (b"a=1", IDENTITY["X-PSC-Subject"].encode()) == (seen.one("Cookie"), seen.one("X-PSC-Subject"))
        assert f"dossier.localhost:{port}".encode() == seen.one("Host")
        assert b"http" == inner.requests[0].one("X-Forwarded-Proto")
        assert f"wallet.psc.localhost:{port}".encode() == psc.requests[0].one("Host")


def test_fields_fit() -> None:
    """The names of contract §6 are in the plan of the profile `psc` (this file leans on it)."""
    assert set(FIELDS.values()) == set(HeaderPlan("psc", "percent", {}).names)


def test_settings_is_untouched() -> None:
    """The same settings give the same text, twice."""
    one = settings()
    assert proxy_config("nginx", one) == proxy_config("nginx", replace(one))
