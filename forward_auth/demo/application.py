"""A small application that knows nothing of PSC: it shows the headers it gets.

For: the demonstration; it stands for any application of an establishment that can take its user from a header. Refuses: nothing; that is the
point. It has no sign-in, no session, no check of its own.
"""

from collections.abc import Mapping
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

_PAGE = """<!DOCTYPE html>
<html lang="fr"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }} td, th {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8886; overflow-wrap: anywhere }}
.note {{ border-left: .3rem solid #2a6; padding: .3rem 1rem }} button {{ font: inherit; padding: .4rem 1rem }}
nav a {{ margin-right: 1rem }} code {{ overflow-wrap: anywhere }}
</style></head><body>
<header><nav aria-label="Démonstration">{links}</nav></header>
<main>
<h1>{title}</h1>
<p id="hello">{hello}</p>
{note}
<form method="post" action="{path}"><p><label>Texte <input name="text" value="Paracétamol 1 g"></label> <button>Envoyer</button></p></form>
<h2>Ce que l’application a reçu</h2>
<p><code id="request">{method} {path}</code></p>
<table><thead><tr><th scope="col">En-tête</th><th scope="col">Valeur</th></tr></thead><tbody>{rows}</tbody></table>
</main></body></html>
"""


def serve(title: str, links: Mapping[str, str]) -> ThreadingHTTPServer:
    """An application on a free port of 127.0.0.1; the caller runs serve_forever in a thread."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "application"
        sys_version = ""

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            sent = self.rfile.read(min(length, 65536)).decode("utf-8", "replace")
            name = " ".join(
                unquote(self.headers.get(header, "")) for header in ("X-PSC-Given-Name", "X-PSC-Family-Name")
            ).strip()
            hello = f"Bonjour {escape(name)}" if name else "Bonjour (je ne sais pas qui vous êtes)"
            note = f'<p class="note" id="sent">Reçu : <code>{escape(sent)}</code></p>' if sent else ""
            rows = "".join(
                f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>"
                for key, value in sorted(self.headers.items())
            )
            anchors = "".join(f'<a href="{escape(url)}">{escape(text)}</a>' for text, url in links.items())
            page = _PAGE.format(
                title=escape(title),
                links=anchors,
                hello=hello,
                note=note,
                method=escape(self.command),
                path=escape(self.path),
                rows=rows,
            )
            body = page.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Set-Cookie", "application=seen; Path=/")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _answer  # noqa: N815 - names that http.server gives

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            return

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)
