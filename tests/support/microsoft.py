"""The part of Microsoft's identity platform that signs in for OneDrive, over TLS on this machine.

Rule 1: it says what the real one says: pending until the code is entered, refresh tokens that change, errors as JSON
        with AADSTS numbers. It knows one tenant, one application, one person.

Source: Microsoft identity platform, "OAuth 2.0 device authorization grant", "client credentials flow", "refresh the
access token", "Microsoft Entra authentication error codes".
"""

import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from haulier.core.values import dataclass
from tests.support.components import require

TENANT: Final = "example.onmicrosoft.com"
CLIENT: Final = "11111111-2222-3333-4444-555555555555"
SECRET: Final = "the-client-secret"
DEVICE_CODE: Final = "a-device-code"


class Refused(Exception):
    """An error of the protocol."""

    def __init__(self, status: int, error: str, words: str) -> None:
        self.status = status
        self.document = {"error": error, "error_description": words}


@dataclass
class Authority:
    """What it knows, what it was asked, and how it answers."""

    certificate: Path
    port: int = 0
    pending: int = 1
    """Questions for a device's token before somebody has entered the code."""
    declined: bool = False
    broken: str = ""
    """A page in the place of every answer."""
    failing: int = 0
    """The status of every answer about tokens, instead of the good one; 0: none."""
    failed: threading.Event = field(default_factory=threading.Event)
    """Set with the first answer that failed so."""
    answering: threading.Event = field(default_factory=threading.Event)
    """Where it is not set, questions for tokens wait."""
    asked: threading.Event = field(default_factory=threading.Event)
    """Set with the first question for a token."""
    grants: list[str] = field(default_factory=list)
    """Of every token that was asked for."""
    scopes: list[str] = field(default_factory=list)
    """Likewise; of a device's, the scope that its code was asked for with."""
    device_scope: str = ""
    refresh: str = "refresh-0"
    """The one refresh token that is good."""
    issued: list[str] = field(default_factory=list)
    """Access tokens, the newest last."""

    @property
    def url(self) -> str:
        """What is set as `authority`."""
        return f"https://localhost:{self.port}"

    def answer(self, method: str, path: str, form: dict[str, str]) -> dict[str, Any]:
        """Return the document that answers a request."""
        if not path.startswith(f"/{TENANT}/"):
            raise Refused(400, "invalid_tenant", "AADSTS90002: Tenant not found.")
        match method, path.removeprefix(f"/{TENANT}/"):
            case "GET", "v2.0/.well-known/openid-configuration":
                base = f"{self.url}/{TENANT}"
                return {
                    "issuer": f"{base}/v2.0",
                    "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                    "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                }
            case "POST", "oauth2/v2.0/devicecode":
                self._know(form)
                self.device_scope = form["scope"]
                return {
                    "device_code": DEVICE_CODE,
                    "user_code": "ABCD1234",
                    "verification_uri": f"{self.url}/device",
                    "expires_in": 900,
                    "interval": 1,
                    "message": f"Open {self.url}/device and enter the code ABCD1234.",
                }
            case "POST", "oauth2/v2.0/token":
                self.asked.set()
                self.answering.wait(60)
                if self.failing:
                    self.failed.set()
                    raise Refused(self.failing, "", "")
                self._know(form)
                return self._token(form)
            case _:
                raise Refused(404, "not_found", "There is no such page.")

    def _know(self, form: dict[str, str]) -> None:
        if form.get("client_id") != CLIENT:
            raise Refused(400, "unauthorized_client", "AADSTS700016: Application not found.")

    def _token(self, form: dict[str, str]) -> dict[str, Any]:
        grant = form["grant_type"].rsplit(":", 1)[-1]
        self.grants.append(grant)
        self.scopes.append(self.device_scope if grant == "device_code" else form.get("scope", ""))
        if grant == "client_credentials":
            if form.get("client_secret") != SECRET:
                raise Refused(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
            return self._issue({})
        if grant == "device_code":
            self._require_entered(form)
        elif form.get("refresh_token") != self.refresh:
            raise Refused(400, "invalid_grant", "AADSTS70008: The refresh token has expired.")
        self.refresh = f"refresh-{len(self.issued) + 1}"
        who: dict[str, Any] = {
            "sub": "s",
            "oid": "o",
            "tid": "t",
            "preferred_username": "ann@example.org",
            "aud": CLIENT,
        }
        who |= {"iss": f"{self.url}/{TENANT}/v2.0", "exp": 4_102_444_800, "iat": 0}
        return self._issue(
            {
                "refresh_token": self.refresh,
                "client_info": _encoded({"uid": "o", "utid": "t"}),
                "id_token": f"{_encoded({'alg': 'none'})}.{_encoded(who)}.",
            }
        )

    def _require_entered(self, form: dict[str, str]) -> None:
        if form.get("device_code") != DEVICE_CODE:
            raise Refused(400, "bad_verification_code", "AADSTS70000: The code is not known.")
        if self.declined:
            raise Refused(400, "authorization_declined", "AADSTS70017: The user has declined.")
        if self.pending:
            self.pending -= 1
            raise Refused(400, "authorization_pending", "AADSTS70016: The code was not entered yet.")

    def _issue(self, more: dict[str, Any]) -> dict[str, Any]:
        self.issued.append(f"access-{len(self.issued) + 1}")
        scope = self.scopes[-1]
        return {
            "token_type": "Bearer",
            "scope": scope,
            "expires_in": 3600,
            "access_token": self.issued[-1],
            **more,
        }


def _encoded(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


@contextmanager
def authority(folder: Path) -> Iterator[Authority]:
    """Run it, with a certificate of its own."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *(require("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", key, "-out", certificate, "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    made = Authority(certificate)
    made.answering.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            status, text = 200, made.broken
            if not text:
                try:
                    document = made.answer(self.command, self.path.partition("?")[0], dict(parse_qsl(body)))
                except Refused as refused:
                    status, document = refused.status, refused.document
                    if status == made.failing:
                        self.send_response(status)
                        self.send_header("Retry-After", "7")
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                text = json.dumps(document)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        made.port = server.server_address[1]
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        try:
            yield made
        finally:
            made.answering.set()
            server.shutdown()
            serving.join()
