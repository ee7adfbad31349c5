"""Who may use the page: whoever has the address that the command printed, from this machine.

    GET /?token=...   right token ──> cookie (HttpOnly, SameSite=Strict), redirect to /
    anything          Host is ours? ──> cookie is ours? ──> POST: Origin and CSRF token are ours?

The Host is compared since another name may be made to lead to 127.0.0.1 (DNS rebinding), Origin
and token since other pages of the same browser may post here. Every answer forbids whatever the
page does not need: scripts, styles and pictures come from here alone, nothing is inline, nothing
frames the page, nothing is stored.
"""

from __future__ import annotations

import hmac
import secrets

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)

HEADERS = {
    "content-security-policy": CSP,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

CSRF_HEADER = "x-csrf-token"


class Secrets:
    """What only this run of the command and the page that it opened know."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(24)
        """Goes into the address that is printed."""
        self.session = secrets.token_urlsafe(24)
        """Goes into the cookie."""
        self.csrf = secrets.token_urlsafe(24)
        """Goes into the page, which sends it with every change."""


class Guard:
    """Lets only the page itself, opened with its token, reach what is behind it."""

    def __init__(self, app: ASGIApp, known: Secrets, port: int) -> None:
        self._app = app
        self._secrets = known
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        # Cookies know no ports: two reviews on one machine must not take each other's.
        self._cookie = f"pagesight_review_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    told[name] = value
                told.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _refusal(
        self, scope: Scope, headers: Headers
    ) -> PlainTextResponse | RedirectResponse | None:
        """The answer to whoever may not pass, or who has just shown the token."""
        if headers.get("host", "") not in self._hosts:
            return PlainTextResponse("this page is at 127.0.0.1 alone", 421)
        token = QueryParams(scope["query_string"]).get("token")
        if scope["method"] == "GET" and scope["path"] == "/" and token is not None:
            if not _same(token, self._secrets.token):
                return PlainTextResponse("the token is of another run of pagesight review", 403)
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self._cookie, self._secrets.session, httponly=True, samesite="strict")
            return answer
        # Cookies know no ports: those of any program on this machine come along, odd ones too.
        shown = HTTPConnection(scope).cookies.get(self._cookie, "")
        if not _same(shown, self._secrets.session):
            return PlainTextResponse("open the address that pagesight review printed", 403)
        if scope["method"] in {"GET", "HEAD"}:
            return None
        origin = headers.get("origin", "")
        ours = origin in {f"http://{host}" for host in self._hosts}
        if not ours or not _same(headers.get(CSRF_HEADER, ""), self._secrets.csrf):
            return PlainTextResponse("this did not come from the page itself; reload it", 403)
        return None


def _same(given: str, ours: str) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(given.encode(), ours.encode())
