"""The outer door's map: which address exists on which host, by which method, and what answers there.

For: one table to read. Refuses: everything that is not in it, each with a page; on an application's host only what a professional meets there
(decisions on which addresses exist where).
"""

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from forward_auth.web.app import OUTER, Outer, at_known_host, guard, static
from forward_auth.web.handoff import handoff
from forward_auth.web.session import refused, session
from forward_auth.web.signin import callback, start, start_posted
from forward_auth.web.signout import back_channel, sign_out, sign_out_asked, signed_out

LARGEST_FORM = 64 * 1024
LARGEST_LINE = 32 * 1024  # our cookies, and those of an application beside them


def application(outer: Outer) -> web.Application:
    """The aiohttp application of the outer door."""
    app = web.Application(middlewares=[guard], client_max_size=LARGEST_FORM)
    app[OUTER] = outer
    prefix = outer.prefix
    everywhere = {"origin_only": False}
    origin = {"origin_only": True}
    app.router.add_get(f"{prefix}/start", at_known_host(start, **everywhere), allow_head=False)
    app.router.add_post(f"{prefix}/start", at_known_host(start_posted, **origin))
    app.router.add_get(f"{prefix}/callback", at_known_host(callback, **origin), allow_head=False)
    app.router.add_get(f"{prefix}/handoff", at_known_host(handoff, **everywhere), allow_head=False)
    app.router.add_get(f"{prefix}/sign-out", at_known_host(sign_out_asked, **everywhere), allow_head=False)
    app.router.add_post(f"{prefix}/sign-out", at_known_host(sign_out, **everywhere))
    app.router.add_get(f"{prefix}/signed-out", at_known_host(signed_out, **everywhere))
    app.router.add_get(f"{prefix}/session", at_known_host(session, **everywhere))
    app.router.add_get(f"{prefix}/refused", at_known_host(refused, **everywhere))
    app.router.add_post(f"{prefix}/backchannel-logout", back_channel)
    app.router.add_get(f"{prefix}/static/{{name}}", static)
    return app


class Quiet(RequestHandler):
    """aiohttp's side of a connection, but its own answer to bytes that are no request says nothing: aiohttp would repeat the header line at
    fault, an HttpOnly ticket in it, and name its version (LOG-05, ASVS 13.4.6)."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """An empty answer of that status; the connection is closed. Raises ConnectionError when another answer was begun already."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        if status >= 500:
            self.log_exception("a request of the outer door failed", exc_info=exc)
        response = web.Response(status=status, headers={"Server": "", "Cache-Control": "no-store"})
        response.force_close()
        return response
