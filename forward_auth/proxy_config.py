"""The text a reverse proxy needs for one configuration: hosts, door addresses, identity header names.

For: `psc-forward-auth proxy-config`, the demonstration, and the files of deploy/nginx and deploy/traefik, which are made by
`deploy_files()` out of the same pieces: there is one source. Pure: settings in, text out.
Refuses: a value that could end a directive and begin another one (`;{}\\n#"$`, blank, quote: CFG-04 of the attack list; the class
of CVE-2025-24514), a proxy this version has no text for, and a door the proxy cannot reach.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from forward_auth.errors import ConfigError, Mistake
from forward_auth.headers import HeaderPlan
from forward_auth.settings import AppSettings, Listener, Origin, Settings

KINDS: Final = ("nginx", "traefik")
LATER: Final = ("caddy", "haproxy", "apache", "envoy", "ingress-nginx")

PLACEHOLDER: Final = (
    "http://127.0.0.1:8080"  # an application whose address the caller did not give; marked CHANGE in the text
)
DOWN_PAGE: Final = "/etc/nginx/psc-forward-auth/down.html"
CERTIFICATES: Final = "/etc/nginx/tls"  # HOST.crt and HOST.key
ACCESS_LOG: Final = "/var/log/nginx/psc-forward-auth.log"

# Allow-lists, not deny-lists: what is not here cannot be in the text, so no character of a proxy's grammar can.
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9_-]+)+")
_PATH: Final = re.compile(r"(/[A-Za-z0-9._-]+)+")
_HEADER: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_UPSTREAM: Final = re.compile(
    r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?|http://unix:(/[A-Za-z0-9._-]+)+"
)
_LISTEN: Final = re.compile(r"[A-Za-z0-9.:\[\]/_=-]+( [A-Za-z0-9_=]+)*")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


# ---- nginx, the pieces. @WORD@ is replaced by _fill; everything else stands as nginx reads it. ---------------------------------

_HTTP: Final = """\
# Our server's two doors.
upstream psc_forward_auth_inner {
    server @INNER@;
    keepalive 32;               # without it nginx before 1.29.7 opens a new connection for every check
    keepalive_timeout 60s;
}
upstream psc_forward_auth_outer {
    server @OUTER@;
    keepalive 8;
}

# Scheme and host as the browser sees them.@BEHIND@
map $scheme $psc_public_scheme {
    default @SCHEME@;
}
map "$scheme:$server_port" $psc_public_host {
@HOSTS@}

# One year, over https only: a browser that came once never tries plain http again.
map $psc_public_scheme $psc_hsts {
    default "";
    https   "max-age=31536000";
}

map $http_upgrade $psc_connection {
    default upgrade;
    ""      "";
}

# The Cookie header for the application: all cookies, byte for byte, without ours. The application never holds a ticket it could
# lose. One expression in one pass: what is not ours is kept in up to seven pieces; a header that would need more (no browser of
# ours sends that) matches nothing, and then the application gets no cookie at all.
map $http_cookie $psc_app_cookie {
    default "";
    "@COOKIES@" "$psc_kept1$psc_kept2$psc_kept3$psc_kept4$psc_kept5$psc_kept6$psc_kept7";
}

# A log without query strings, Referer, cookies or Location: a query of ours can hold a one-time code, one of the application a
# patient's name. (nginx's error log does print the whole request line when something fails: keep its readers few.)
map $request_uri $psc_log_path {
    default             "";
    "~^(?<psc_path>[^?#]*)" $psc_path;
}
log_format psc_forward_auth escape=json
    '{"time":"$time_iso8601","client":"$remote_addr","host":"$host","method":"$request_method","path":"$psc_log_path",'
    '"status":$status,"bytes":$body_bytes_sent,"seconds":$request_time,"agent":"$http_user_agent"}';
"""

# `ours` and `other` are one cookie each, without the semicolon before it. Possessive quantifiers (*+, ?+): no way back, so 64 KiB of
# semicolons cost one pass and cannot reach PCRE's limit.
_COOKIES: Final = (
    r"~(?(DEFINE)(?<psc_ours>[\t ]*(?:__Host-)?psc(?:-login-[A-Za-z0-9_-]{8})?[\t ]*=[^;]*+)(?<psc_other>(?!(?&psc_ours))[^;]*+))"
    r"^(?:(?&psc_ours)(?:;[\t ]*+|$))*+(?<psc_kept1>(?:(?&psc_other)(?:;(?&psc_other))*+)?+)"
    + "".join(rf"(?:;(?&psc_ours))*+(?<psc_kept{n}>(?:;(?&psc_other))*+)" for n in range(2, 8))
    + r"(?:;(?&psc_ours))*+$"
)

_PUBLIC_HEADERS: Final = """\
    proxy_set_header Host              $psc_public_host;
    proxy_set_header X-Forwarded-Proto $psc_public_scheme;
    proxy_set_header X-Forwarded-Host  $psc_public_host;
    proxy_set_header X-Forwarded-For   $remote_addr;
"""

_AUTH_LOCATION: Final = """\
# Large cookies pass. X_PSC_Subject, X.PSC.Subject and the like are dropped before anybody sees them: nginx's defaults, repeated
# because identity stands on them. (Without TLS nginx takes these three from the first server block of the port: set them there.)
large_client_header_buffers 4 16k;
underscores_in_headers off;
ignore_invalid_headers on;

# The check: may this request pass, and who is it? Never reachable from outside (404).
location = @PREFIX@/nginx-check {
    internal;
    proxy_pass http://psc_forward_auth_inner/auth/nginx;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_pass_request_body off;
    proxy_set_header Content-Length "";
    # Nothing of the client's passes but what is named here.
    proxy_pass_request_headers off;
    proxy_set_header Host               $psc_public_host;
    proxy_set_header X-Forwarded-Method $request_method;
    proxy_set_header X-Forwarded-Proto  $psc_public_scheme;
    proxy_set_header X-Forwarded-Host   $psc_public_host;
    proxy_set_header X-Forwarded-Uri    $request_uri;
    proxy_set_header X-Forwarded-For    $remote_addr;
    proxy_set_header Cookie             $http_cookie;
    proxy_set_header Authorization      $http_authorization;
    proxy_set_header Accept             $http_accept;
    proxy_set_header Origin             $http_origin;
    proxy_set_header Referer            $http_referer;
    proxy_set_header User-Agent         $http_user_agent;
    proxy_set_header X-Requested-With   $http_x_requested_with;
    proxy_set_header Sec-Fetch-Mode     $http_sec_fetch_mode;
    proxy_set_header Sec-Fetch-Dest     $http_sec_fetch_dest;
    proxy_set_header Sec-Fetch-Site     $http_sec_fetch_site;
    proxy_set_header Sec-WebSocket-Key  $http_sec_websocket_key;
    proxy_set_header Access-Control-Request-Method $http_access_control_request_method;
    # No answer is ever kept: a sign-out holds within a second.
    proxy_cache off;
    # Whatever error pages stand further up must not turn a refusal, or our server's absence, into a page with status 200: nginx
    # would take that for an allow (CVE-2026-24513 was of this kind).
    proxy_intercept_errors off;
    # 599 never happens: the line is here because a block with an error_page of its own inherits none.
    error_page 599 @PREFIX@/nginx-down;
    proxy_buffer_size 16k;
    proxy_buffers 4 16k;
    proxy_connect_timeout 1s;
    proxy_send_timeout 5s;
    proxy_read_timeout 5s;
}

# Not signed in. A browser that navigates is sent to the sign-in (our server gave the address); everybody else gets a plain 401.
location @psc_401 {
    error_page 599 @PREFIX@/nginx-down;         # no error_page from further up
    add_header Set-Cookie $psc_set_cookie always;
    add_header Cache-Control no-store always;
    add_header Strict-Transport-Security $psc_hsts always;
    if ($psc_location = "") {
        return 401;
    }
    return 302 $psc_location;
}

# Signed in, not allowed: our page, shown to the person it is about, with status 403.
location = @PREFIX@/nginx-refused {
    internal;
    auth_request off;
    proxy_pass http://psc_forward_auth_outer@PREFIX@/refused?ref=$psc_reference;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_pass_request_body off;
    proxy_set_header Content-Length "";
@PUBLIC@    proxy_redirect off;
    proxy_cache off;
    proxy_intercept_errors off;
    proxy_connect_timeout 1s;
    proxy_read_timeout 5s;
    add_header Strict-Transport-Security $psc_hsts always;
    proxy_hide_header Strict-Transport-Security;
    error_page 500 502 503 504 = @psc_refused_plainly;
}
location @psc_refused_plainly {
    default_type "text/plain; charset=utf-8";
    add_header Cache-Control no-store always;
    return 403 "Accès refusé. Le détail ne peut pas être affiché pour le moment. Référence : $psc_reference\\n";
}
"""

_DOWN: Final = """\
# Our server did not answer, or answered what it must not: nobody passes, and a French page says so.
location = @PREFIX@/nginx-down {
    internal;
    auth_request off;
    root @FOLDER@;
    try_files /@FILE@ @psc_down_plainly;
    types { }
    default_type "text/html; charset=utf-8";
    etag off;
    if_modified_since off;
    add_header Cache-Control no-store always;
    add_header Retry-After 30 always;
    add_header Strict-Transport-Security $psc_hsts always;
    error_page 403 = @psc_down_plainly;         # not readable for nginx
}
location @psc_down_plainly {
    default_type "text/plain; charset=utf-8";
    add_header Cache-Control no-store always;
    add_header Retry-After 30 always;
    return 503 "Le service d'identification ne répond pas. Réessayez dans une minute ; si cela dure, appelez le support informatique.\\n";
}
"""

_OUTER_DOOR: Final = """\
location ^~ @PREFIX@/ {
    auth_request off;
    proxy_pass http://psc_forward_auth_outer;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
@PUBLIC@    proxy_redirect off;
    proxy_cache off;
    proxy_intercept_errors off;
    proxy_buffer_size 16k;
    proxy_buffers 4 16k;
    proxy_connect_timeout 1s;
    proxy_read_timeout 30s;
    client_max_body_size 64k;
    add_header Strict-Transport-Security $psc_hsts always;
    proxy_hide_header Strict-Transport-Security;
    recursive_error_pages on;
    error_page 502 504 =503 @PREFIX@/nginx-down;
}
"""

# What an application could mistake for the truth if a client sent it. The second group would make an application act on another
# path or method than the one that was judged.
_CLEARED: Final = (
    (
        "Forwarded",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Uri",
        "X-Forwarded-Method",
        "X-PSC-Assertion",
        "X-PSC-Reference",
    ),
    ("X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"),
)
_SET_FOR_APPS: Final = (
    "Host",
    "Cookie",
    "Upgrade",
    "Connection",
    "X-Real-IP",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-For",
)

_PROTECT: Final = """\
auth_request @PREFIX@/nginx-check;
satisfy all;

auth_request_set $psc_location   $upstream_http_location;
auth_request_set $psc_set_cookie $upstream_http_set_cookie;
auth_request_set $psc_reference  $upstream_http_x_psc_reference;
@AUTH_SET@
# Answers of the check only: the application's own 401, 403, 500 and 503 pass untouched.
proxy_intercept_errors off;
error_page 401 = @psc_401;
error_page 403 @PREFIX@/nginx-refused;
error_page 500 =503 @PREFIX@/nginx-down;
recursive_error_pages on;       # a page of ours that fails has a plainer one

add_header Set-Cookie $psc_set_cookie always;
add_header Strict-Transport-Security $psc_hsts always;
proxy_hide_header Strict-Transport-Security;

# Identity: every header, always. Unknown = not sent, and what the client sent under that name is gone.
@IDENTITY@
# The request as it was made, not as the client says it was made.
proxy_set_header Host              $psc_public_host;
proxy_set_header X-Forwarded-Proto $psc_public_scheme;
proxy_set_header X-Forwarded-Host  $psc_public_host;
proxy_set_header X-Forwarded-For   $remote_addr;
proxy_set_header X-Real-IP         $remote_addr;
@CLEARED_FACTS@
# Another path or another method than the judged one. An application that needs a method override: take its line out, and write
# no rule by method for it.
@CLEARED_TWISTS@
proxy_set_header Cookie $psc_app_cookie;
proxy_http_version 1.1;
proxy_set_header Upgrade    $http_upgrade;
proxy_set_header Connection $psc_connection;
proxy_cache off;
"""

_TLS: Final = """\
    ssl_certificate     @CERTIFICATES@/@HOST@.crt;
    ssl_certificate_key @CERTIFICATES@/@HOST@.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305;
    ssl_session_cache shared:psc_tls:10m;
    ssl_session_tickets off;
"""

_REDIRECT: Final = """\
server {
    listen 80;
    server_name @HOST@;
    access_log @ACCESS_LOG@ psc_forward_auth;
    return 301 https://@HOST@$request_uri;
}
"""

_ORIGIN_PLACES: Final = """\
    location = / {
        absolute_redirect off;
        return 302 @PREFIX@/session;
    }
    location / {
        return 404;
    }
"""


def _refuse(key: str, problem: str, cure: str, file: str = "proxy-config") -> NoReturn:
    raise ConfigError((Mistake(file, 0, key, problem, cure),))


def _safe(pattern: re.Pattern[str], value: str, key: str) -> str:
    """The value, when every character of it is one that cannot leave its place in the text; ConfigError otherwise."""
    if not pattern.fullmatch(value):
        _refuse(key, f"{value!r} cannot stand in a proxy's configuration", "use letters, digits and . - _ / : only")
    return value


def _fill(template: str, **words: str) -> str:
    text = template
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    left = re.search(r"@[A-Z_]+@", text)
    assert left is None, left
    return text


def _indent(text: str, by: int = 4) -> str:
    return "".join(" " * by + line if line.strip() else line for line in text.splitlines(keepends=True))


def _columns(rows: Iterable[tuple[str, str]], directive: str) -> str:
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    return "".join(f"{directive} {name:<{width}} {value};\n" for name, value in rows)


def _address(listener: Listener) -> str:
    """Where a proxy on this machine reaches a door."""
    if listener.kind == "unix":
        return "unix:" + _safe(_PATH, str(listener.path), "server.inner")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(listener.host, listener.host)  # noqa: S104  read, not bound
    if ":" in host:
        host = f"[{host}]"
    return f"{_safe(_HOST, host.lower(), 'server')}:{int(listener.port)}"


def _inner(settings: Settings, *, tcp_only: bool = False) -> str:
    """The inner door's address: the unix socket when there is one (faster, and its rights are the file's), else TCP."""
    for kind in ("tcp",) if tcp_only else ("unix", "tcp"):
        for listener in settings.server.inner:
            if listener.kind == kind:
                return _address(listener)
    _refuse(
        "server.inner",
        "this proxy speaks TCP only",
        'add "127.0.0.1:9400" and server.trusted_proxies',
        str(settings.path),
    )


@dataclass(frozen=True, slots=True)
class _Behind:
    """How scheme and host are told when TLS ends here, and when it ends at another machine in front of this nginx."""

    scheme: str
    hosts: str
    comment: str


def _behind(origins: Iterable[Origin], *, tls: bool) -> _Behind:
    own = _Behind(
        "$scheme",
        '    default     "$host:$server_port";\n    "https:443" $host;\n    "http:80"   $host;\n',
        "\n# TLS ends at another machine in front of this one? Then write here what browsers use (https; $host or $host:PORT), let"
        "\n# only that machine reach this nginx, and set set_real_ip_from and real_ip_header so that $remote_addr is the browser's.",
    )
    origins = tuple(origins)
    if tls or any(origin.scheme == "http" for origin in origins):
        return own
    ports = {origin.port for origin in origins}
    if len(ports) > 1:
        _refuse(
            "apps.*.origins",
            "TLS ends elsewhere and the origins have different ports",
            "use one port for all, or --app",
        )
    port = ports.pop()
    return _Behind(
        "https",
        f'    default "{"$host" if port is None else f"$host:{port}"}";\n',
        "\n# TLS ends at another machine in front of this one: only that machine may reach this nginx. For the browser's address in"
        "\n# logs and rules add its address here: set_real_ip_from 192.0.2.10; real_ip_header X-Forwarded-For;",
    )


def _http(inner: str, outer: str, behind: _Behind) -> str:
    return _fill(
        _HTTP,
        INNER=inner,
        OUTER=outer,
        SCHEME=behind.scheme,
        HOSTS=behind.hosts,
        BEHIND=behind.comment,
        COOKIES=_COOKIES.replace("\\", "\\\\"),  # in a quoted nginx word a backslash is written twice
    )


def _auth_location(prefix: str, down_page: str) -> str:
    return _fill(_AUTH_LOCATION, PREFIX=prefix, PUBLIC=_PUBLIC_HEADERS) + "\n" + _down(prefix, down_page)


def _down(prefix: str, down_page: str) -> str:
    folder, _, file = down_page.rpartition("/")
    return _fill(_DOWN, PREFIX=prefix, FOLDER=folder or "/", FILE=file)


def _outer_door(prefix: str) -> str:
    return _fill(_OUTER_DOOR, PREFIX=prefix, PUBLIC=_PUBLIC_HEADERS)


def _protect(prefix: str, names: Iterable[str]) -> str:
    """The directives of a protected location. `names`: every identity header of the app (contract §6)."""
    names = tuple(_safe(_HEADER, name, "headers") for name in names)
    taken = {name.lower() for group in (*_CLEARED, _SET_FOR_APPS) for name in group}
    if not names:
        _refuse("headers", "no identity header", "name at least one")
    for name in names:
        if name.lower() in taken:
            _refuse("headers", f"{name} has a meaning of its own behind a proxy", "take another name, X-… for example")
    variables = {name: "$psc_app_" + name.lower().replace("-", "_") for name in names}
    sources = {name: "$upstream_http_" + name.lower().replace("-", "_") for name in names}
    width = max(len(variable) for variable in variables.values())
    facts, twists = ([(name, '""') for name in group] for group in _CLEARED)
    return _fill(
        _PROTECT,
        PREFIX=prefix,
        AUTH_SET="".join(f"auth_request_set {variables[name]:<{width}} {sources[name]};\n" for name in names),
        IDENTITY=_columns(variables.items(), "proxy_set_header"),
        CLEARED_FACTS=_columns(facts, "proxy_set_header"),
        CLEARED_TWISTS=_columns(twists, "proxy_set_header"),
    )


def _server(host: str, listen: str, inside: str, *, tls: bool, certificates: str, access_log: str) -> str:
    """One server block around `inside` (already indented)."""
    head = f"server {{\n    listen {listen};\n"
    if tls:
        head += "    # listen [::]:443 ssl http2;      # IPv6\n" if listen == "443 ssl http2" else ""
    head += f"    server_name {host};\n"
    if tls:
        head += _fill(_TLS, HOST=host, CERTIFICATES=certificates)
    head += f"    server_tokens off;\n    access_log {access_log} psc_forward_auth;\n"
    return head + "\n" + inside + "}\n"


def _plain_place(upstream: str) -> str:
    """A location that is not protected at all: the demonstration's pretend PSC."""
    return (
        "    location / {\n"
        + _indent(_PUBLIC_HEADERS)
        + '        proxy_http_version 1.1;\n        proxy_set_header Connection "";\n'
        + f"        proxy_pass {upstream};\n    }}\n"
    )


def _chosen(settings: Settings, app: str | None) -> tuple[AppSettings, ...]:
    apps = tuple(settings.apps)
    if app is None:
        return apps
    chosen = tuple(one for one in apps if one.name == app)
    if not chosen:
        _refuse(
            "--app", f"no app is called {app!r}", "one of: " + ", ".join(one.name for one in apps), str(settings.path)
        )
    return chosen


def _plan(app: AppSettings) -> tuple[str, ...]:
    headers = app.headers
    return tuple(HeaderPlan(headers.profile, headers.encoding, headers.names).names)


def _nginx(
    settings: Settings,
    app: str | None,
    *,
    listen: str | None,
    tls: bool,
    upstreams: Mapping[str, str],
    plain_hosts: Mapping[str, str],
    down_page: str,
    certificates: str,
    access_log: str,
) -> str:
    apps = _chosen(settings, app)
    prefix = _safe(_PREFIX, settings.server.path_prefix, "server.path_prefix")
    _safe(_PATH, down_page, "down_page")
    _safe(_PATH, certificates, "certificates")
    _safe(_PATH, access_log, "access_log")
    origin = settings.server.origin
    shown = [origin, *(one for chosen in apps for one in chosen.origins)]
    behind = _behind(shown, tls=tls)
    protected = {one for chosen in apps for one in chosen.origins}

    def listening(place: Origin) -> str:
        if listen is not None:
            return _safe(_LISTEN, listen, "listen")
        if tls:
            return f"{place.port or 443} ssl http2"
        return str(80 if place.port is None else int(place.port))

    def server(place: Origin, inside: str) -> Iterator[str]:
        host = _safe(_HOST, place.host, "origins")
        if tls and listen is None and place.port is None:
            yield _fill(_REDIRECT, HOST=host, ACCESS_LOG=access_log)
        yield _server(host, listening(place), inside, tls=tls, certificates=certificates, access_log=access_log)

    def blocks() -> Iterator[str]:
        yield (
            "# PSC Forward Auth for nginx: everything for this configuration, in one file. Made by `psc-forward-auth proxy-config nginx`.\n"
            "# To change: lines marked CHANGE. Put it where nginx includes files in its http block (/etc/nginx/conf.d/ on Debian), and\n"
            f"# {down_page} beside it (deploy/nginx/down.html). Right for nginx 1.19.10 and later, 1.29.7 and later included.\n"
        )
        yield _http(_inner(settings), _address(settings.server.outer), behind)
        places = _indent(_auth_location(prefix, down_page)) + "\n" + _indent(_outer_door(prefix))
        outer_places = _indent(_outer_door(prefix)) + "\n" + _indent(_down(prefix, down_page))
        if origin not in protected:
            yield "# Sign-in, sign-out, the pages: the one origin that PSC knows.\n" + "\n".join(
                server(origin, outer_places + "\n" + _fill(_ORIGIN_PLACES, PREFIX=prefix))
            )
        for chosen in apps:
            given = upstreams.get(chosen.name)
            upstream = _safe(_UPSTREAM, given or PLACEHOLDER, f"upstream of {chosen.name}")
            change = "" if given else "        # CHANGE: where the application listens\n"
            for place in chosen.origins:
                location = (
                    "    location / {\n"
                    + _indent(_protect(prefix, _plan(chosen)), 8)
                    + f"\n        client_max_body_size 50m;\n{change}        proxy_pass {upstream};\n    }}\n"
                )
                yield f"# The application «{_safe(_NAME, chosen.name, 'apps')}».\n" + "\n".join(
                    server(place, places + "\n" + location)
                )
        for host, upstream in plain_hosts.items():
            place = Origin(origin.scheme, host, origin.port)
            yield f"# {_safe(_HOST, host, 'plain_hosts')}: passed on, not protected.\n" + "\n".join(
                server(place, _plain_place(_safe(_UPSTREAM, upstream, "plain_hosts")))
            )

    return "\n".join(blocks())


# ---- Traefik --------------------------------------------------------------------------------------------------------------------

# What a check may see of the client's request. X-Forwarded-* are set by Traefik itself.
_TRAEFIK_ASKS: Final = (
    "Cookie",
    "Authorization",
    "Accept",
    "Origin",
    "Referer",
    "User-Agent",
    "X-Requested-With",
    "Sec-Fetch-Mode",
    "Sec-Fetch-Dest",
    "Sec-Fetch-Site",
    "Sec-WebSocket-Key",
    "Access-Control-Request-Method",
)

_TRAEFIK_HEAD: Final = """\
# PSC Forward Auth for Traefik 3, the dynamic part (file provider).@MADE@
# To change: @CHANGE@.
#
# The static part that goes with it is deploy/traefik/traefik.yml; identity is safe only with an entry point like the one there.
# What Traefik cannot do: take one cookie out of the Cookie header. The application therefore receives our ticket as well; it is
# valid on that application's own host only. Where that is not acceptable put nginx in front (deploy/nginx does it), or a plugin.
# Traefik 2 (2.11.56 at least): take out addAuthCookiesToResponse and preserveLocationHeader, which it does not know; it adds no
# cookie to an allowed request, and nothing here depends on one.
http:
  middlewares:
"""

_TRAEFIK_MIDDLEWARE: Final = """\
    @NAME@:
      forwardAuth:
        address: "http://@INNER@/auth/forward"
        # The entry point has removed what clients claim (forwardedHeaders.trustedIPs); so what is left is true.
        trustForwardHeader: true
        # Traefik compares with the name as Go writes it (X-Psc-Subject), hence (?i); and [^a-z0-9] takes away X_PSC_Subject,
        # X.PSC.Subject and every other spelling that PHP, WSGI or CGI would read as ours. What matches is removed from the
        # client's request whether the check names it or not.
        authResponseHeadersRegex: "@REGEX@"
        authRequestHeaders:
@ASKS@        addAuthCookiesToResponse: ["@COOKIE@"]
        preserveLocationHeader: true
        maxResponseBodySize: 65536
"""

_TRAEFIK_CLEAN: Final = """\
    # The application must not act on another path or method than the one that was judged. Goes after the check.
    psc-clean:
      headers:
        customRequestHeaders:
@CLEARED@"""


def _traefik_regex(names: Iterable[str]) -> str:
    """Every spelling of the identity headers that some application server folds into theirs; anchored at both ends, or by prefix."""
    names = tuple(_safe(_HEADER, name, "headers").lower() for name in names)
    if all(name.startswith("x-psc-") for name in names):
        return "(?i)^x[^a-z0-9]psc[^a-z0-9]"
    ours = [name.replace("-", "[^a-z0-9]") for name in dict.fromkeys((*names, "x-psc-reference"))]
    return "(?i)^(?:" + "|".join(ours) + ")$"


def _traefik_middleware(name: str, inner: str, names: Iterable[str], cookie: str) -> str:
    return _fill(
        _TRAEFIK_MIDDLEWARE,
        NAME=name,
        INNER=inner,
        REGEX=_traefik_regex(names),
        ASKS="".join(f"          - {header}\n" for header in _TRAEFIK_ASKS),
        COOKIE=cookie,
    )


def _traefik_clean() -> str:
    cleared = [name for group in _CLEARED for name in group if name not in ("X-Forwarded-Port",)]
    return _fill(_TRAEFIK_CLEAN, CLEARED="".join(f'          {name}: ""\n' for name in cleared))


def _traefik_route(
    name: str, rule: str, service: str, middlewares: Iterable[str], priority: int | None, tls: bool
) -> str:
    text = f'    {name}:\n      entryPoints: [{"websecure" if tls else "web"}]\n      rule: "{rule}"\n'
    if priority is not None:
        text += f"      priority: {priority}\n"
    chain = list(middlewares)
    if chain:
        text += f"      middlewares: [{', '.join(chain)}]\n"
    text += f"      service: {service}\n"
    return text + ("      tls: {}\n" if tls else "")


def _traefik_service(name: str, url: str, change: bool) -> str:
    mark = "           # CHANGE: where the application listens" if change else ""
    return f'    {name}:\n      loadBalancer:\n        servers:\n          - url: "{url}"{mark}\n'


@dataclass(frozen=True, slots=True)
class _TraefikApp:
    name: str
    hosts: tuple[str, ...]
    headers: tuple[str, ...]
    upstream: str | None


def _traefik_text(
    apps: tuple[_TraefikApp, ...],
    origin_host: str,
    inner: str,
    outer: str,
    prefix: str,
    *,
    tls: bool,
    made: str,
    change: str,
) -> str:
    """One middleware per header plan, one router per app, one for the outer door on all hosts."""
    cookie = "__Host-psc" if tls else "psc"
    plans: dict[tuple[str, ...], str] = {}
    middlewares = ""
    for app in apps:
        if app.headers not in plans:
            plans[app.headers] = "psc-check" if not plans else f"psc-check-{app.name}"
            middlewares += _traefik_middleware(plans[app.headers], inner, app.headers, cookie)
    hosts = dict.fromkeys((origin_host, *(host for app in apps for host in app.hosts)))
    outer_rule = "(" + " || ".join(f"Host(`{host}`)" for host in hosts) + f") && PathPrefix(`{prefix}/`)"
    routers = "  routers:\n    # The outer door, on every host; no check in front of it.\n"
    routers += _traefik_route("psc-outer-door", outer_rule, "psc-outer-door", (), 100000, tls)
    services = "  services:\n" + _traefik_service("psc-outer-door", f"http://{outer}", change=False)
    for app in apps:
        rule = " || ".join(f"Host(`{host}`)" for host in app.hosts)
        routers += _traefik_route(
            f"app-{app.name}", rule, f"app-{app.name}", (plans[app.headers], "psc-clean"), None, tls
        )
        services += _traefik_service(f"app-{app.name}", app.upstream or PLACEHOLDER, change=app.upstream is None)
    head = _fill(_TRAEFIK_HEAD, MADE=made, CHANGE=change)
    return head + middlewares + _traefik_clean() + routers + services


def _traefik(settings: Settings, app: str | None, *, tls: bool, upstreams: Mapping[str, str]) -> str:
    apps = _chosen(settings, app)
    if settings.server.outer.kind == "unix":
        _refuse("server.outer", "Traefik speaks TCP only", 'write "127.0.0.1:9401"', str(settings.path))
    return _traefik_text(
        tuple(
            _TraefikApp(
                _safe(_NAME, chosen.name, "apps"),
                tuple(dict.fromkeys(_safe(_HOST, place.host, "origins") for place in chosen.origins)),
                _plan(chosen),
                _safe(_UPSTREAM, upstreams[chosen.name], "upstreams") if chosen.name in upstreams else None,
            )
            for chosen in apps
        ),
        _safe(_HOST, settings.server.origin.host, "server.origin"),
        _inner(settings, tcp_only=True),
        _address(settings.server.outer),
        _safe(_PREFIX, settings.server.path_prefix, "server.path_prefix"),
        tls=tls,
        made=" Made by `psc-forward-auth proxy-config traefik`.",
        change="lines marked CHANGE; entry point names, if yours are not «web» and «websecure»",
    )


_TRAEFIK_STATIC: Final = """\
# PSC Forward Auth for Traefik 3, the static part: entry points that remove what clients must not be able to claim.
# To change: nothing for a machine that faces browsers itself; trustedIPs, if a load balancer stands in front.
entryPoints:
  web:
    address: ":80"
    http:
      redirections:
        entryPoint:
          to: websecure
          scheme: https
  websecure:
    address: ":443"
    # Only a real load balancer in front, and only one that deletes X-Forwarded-Uri and X-Forwarded-Method of its clients:
    # forwardedHeaders:
    #   trustedIPs: ["192.0.2.10"]
    http:
      # X_Forwarded_Host and the like (Traefik 3.7.6 or later, 3.6.22 on that line; an older one does not start with this line).
      underscoreHeadersStrategy: delete
      # From 2.11.56 and 3.7.12 on write this instead, which takes X.Forwarded.Host and all other spellings too:
      # aliasHeadersStrategy: delete
providers:
  file:
    directory: /etc/traefik/dynamic
    watch: true
# Never the whole request: the query may hold a one-time code or a patient's name. Traefik logs RequestPath with the query.
accessLog:
  format: json
  fields:
    names:
      RequestPath: drop
      RequestLine: drop
    headers:
      defaultMode: drop
"""


# ---- the public face -------------------------------------------------------------------------------------------------------------


def proxy_config(
    kind: str,
    settings: Settings,
    app: str | None = None,
    *,
    listen: str | None = None,
    tls: bool = True,
    upstreams: Mapping[str, str] | None = None,
    plain_hosts: Mapping[str, str] | None = None,
    down_page: str = DOWN_PAGE,
    certificates: str = CERTIFICATES,
    access_log: str = ACCESS_LOG,
) -> str:
    """The whole text of one proxy for these settings.

    kind: one of KINDS. app: only this app (and the origin). listen: what nginx's `listen` says in every server block; None: the
    port of each origin (`443 ssl http2`), with a redirect from port 80. tls False: plain http here; origins that are https then have
    their TLS at a machine in front. upstreams: app name -> `http://HOST:PORT` (or `https:`, or `http://unix:/PATH`), a marked
    placeholder where absent. plain_hosts: further hosts -> upstream, not protected (the demonstration's simulator).
    down_page, certificates, access_log: absolute paths. The last five but upstreams concern nginx alone.
    Raises ConfigError: unknown kind or app, a value that could inject, a door this proxy cannot reach.
    """
    given = upstreams or {}
    if kind == "nginx":
        return _nginx(
            settings,
            app,
            listen=listen,
            tls=tls,
            upstreams=given,
            plain_hosts=plain_hosts or {},
            down_page=down_page,
            certificates=certificates,
            access_log=access_log,
        )
    if kind == "traefik":
        return _traefik(settings, app, tls=tls, upstreams=given)
    if kind in LATER:
        _refuse("proxy-config", f"{kind}: not in this version", "one of: " + ", ".join(KINDS))
    _refuse("proxy-config", f"{kind!r} is no proxy we know", "one of: " + ", ".join(KINDS))


def deploy_files() -> Mapping[str, str]:
    """deploy/'s proxy files, path below deploy/ -> text, from the same pieces (`python deploy/regenerate.py` writes them)."""
    prefix = "/psc"
    names = tuple(HeaderPlan("psc", "percent", {}).names)
    inner, outer = "unix:/run/psc-forward-auth/inner.sock", "127.0.0.1:9401"
    here = "psc-forward-auth/snippets"

    def site(host: str, inside: str) -> str:
        redirect = _fill(_REDIRECT, HOST=host, ACCESS_LOG=ACCESS_LOG)
        place = Origin("https", host, None)
        server = _server(
            place.host, "443 ssl http2", inside, tls=True, certificates=CERTIFICATES, access_log=ACCESS_LOG
        )
        return redirect + "\n" + server

    return {
        "nginx/psc-forward-auth.conf": (
            "# PSC Forward Auth, what nginx needs once, in its http block: our two doors, the cookie filter, the log format.\n"
            "# To change: the two `server` addresses, if server.inner or server.outer of your configuration are not the defaults.\n\n"
            + _http(inner, outer, _behind((), tls=True))
        ),
        "nginx/snippets/auth-location.conf": (
            "# PSC Forward Auth, once in every server block that holds a protected application: the check and its three ways to say no.\n"
            "# To change: nothing.\n\n" + _auth_location(prefix, DOWN_PAGE)
        ),
        "nginx/snippets/outer-door.conf": (
            "# PSC Forward Auth, once in every server block: sign-in, sign-out and pages go to our server's outer door, unchecked.\n"
            "# To change: nothing. (The page for an outage is a location of auth-location.conf; on the origin alone, of origin.conf.)\n\n"
            + _outer_door(prefix)
        ),
        "nginx/snippets/origin.conf": (
            "# PSC Forward Auth, once in the server block of the origin (auth.hopital.example): the pages, and nothing else.\n"
            f"# To change: nothing.\n\ninclude {here}/outer-door.conf;\n\n"
            + _down(prefix, DOWN_PAGE)
            + "\n"
            + "".join(
                line.removeprefix("    ") for line in _fill(_ORIGIN_PLACES, PREFIX=prefix).splitlines(keepends=True)
            )
        ),
        "nginx/snippets/protect.conf": (
            "# PSC Forward Auth, inside EVERY location that must be protected: nginx inherits no proxy_set_header into a location with its own.\n"
            "# To change: nothing for the header profile «psc»; for another take the text that `psc-forward-auth proxy-config nginx` prints.\n\n"
            + _protect(prefix, names)
        ),
        "nginx/sites/auth.conf": (
            "# PSC Forward Auth, the origin: the one host declared to the ANS, where people sign in.\n"
            "# To change: auth.hopital.example (three places) and the certificate. nginx 1.25.1 and later prefers a line `http2 on;` and warns.\n\n"
            + site("auth.hopital.example", f"    include {here}/origin.conf;\n")
        ),
        "nginx/sites/dossier.conf": (
            "# PSC Forward Auth, one protected application: copy this file for each.\n"
            "# To change: dossier.hopital.example, the certificate, and proxy_pass: where the application listens (reachable from nginx alone).\n\n"
            + site(
                "dossier.hopital.example",
                f"    include {here}/auth-location.conf;\n    include {here}/outer-door.conf;\n\n    location / {{\n"
                f"        include {here}/protect.conf;\n        client_max_body_size 50m;\n        proxy_pass {PLACEHOLDER};\n    }}\n",
            )
        ),
        "docker/psc-forward-auth.conf": (
            "# PSC Forward Auth, deploy/nginx/psc-forward-auth.conf with the inner door over TCP, for the containers of compose.yaml.\n"
            "# To change: nothing.\n\n" + _http("127.0.0.1:9400", outer, _behind((), tls=True))
        ),
        "traefik/traefik.yml": _TRAEFIK_STATIC,
        "traefik/dynamic/psc-forward-auth.yml": _traefik_text(
            (_TraefikApp("dossier", ("dossier.hopital.example",), names, None),),
            "auth.hopital.example",
            "127.0.0.1:9400",
            outer,
            prefix,
            tls=True,
            made="",
            change="host names, the application's address, and 127.0.0.1 when Traefik runs elsewhere (server.inner and server.trusted_proxies)",
        ),
    }
