"""The API key: where it is read from, and the middleware that asks for it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from deepsparse.server.config import ConfigError
from deepsparse.server.refusal import refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

VARIABLE: Final = "DEEPSPARSE_API_KEY"
"""The environment variable that holds a key."""

OPEN: Final = frozenset({"/health", "/v2/health/live", "/v2/health/ready", "/ping"})
"""Paths that are answered without a key: load balancers and orchestrators have none."""

ASKED: Final = "This server asks for its API key, in the header Authorization: Bearer KEY."
"""What a request without it is told."""

SCHEMES: Final[Mapping[str, Mapping[str, str]]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The server's API key."},
    "basic": {"type": "http", "scheme": "basic", "description": "Any user; the API key is the password."},
}
"""OpenAPI's security schemes of the two forms in which a key is sent."""


def read_api_key(given: str | None, file: str | None, environment: Mapping[str, str]) -> str | None:
    """The key of the command line, of a file (its first line), or of the environment; None where there is none.

    Raises:
        ConfigError: both are given, the file cannot be read, or the key is empty or cannot be sent in a header. An
            empty one is an error, since a secret that did not arrive must not open the server.
    """
    if given is not None and file is not None:
        raise ConfigError("Give either --api-key or --api-key-file.")
    if file is not None:
        try:
            text = Path(file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--api-key-file {file} cannot be read: {error}.") from error
        return _checked(text.strip(), f"The file {file}")
    if given is not None:
        return _checked(given, "--api-key")
    if VARIABLE in environment:
        return _checked(environment[VARIABLE].strip(), VARIABLE)
    return None


class KeyCheck:
    """Whether a request has the key: as `Authorization: Bearer KEY`, or as the password of HTTP Basic authentication.

    Browsers ask their user for the latter. Digests are compared, so that the time tells neither the key nor its length.
    """

    def __init__(self, key: str) -> None:
        self._digest = _digest(key.encode())

    def knows(self, sent: Sequence[bytes]) -> bool:
        """Whether the values of all Authorization headers of a request are one, with the key."""
        return len(sent) == 1 and hmac.compare_digest(_digest(_secret(sent[0])), self._digest)


class ApiKey:
    """Middleware that answers 401 to requests without the key, except for those to `OPEN`.

    Args:
        app: what answers requests with the key.
        key: that is asked for.
        on_refused: called at each refusal.
    """

    def __init__(self, app: ASGIApp, key: str, on_refused: Callable[[], object] = lambda: None) -> None:
        self._app = app
        self._check = KeyCheck(key)
        self._on_refused = on_refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN or self._is_known(scope):
            await self._app(scope, receive, send)
            return
        self._on_refused()
        body = json.dumps(refusal(ASKED)).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"www-authenticate", b'Bearer realm="deepsparse"'),
            (b"www-authenticate", b'Basic realm="deepsparse", charset="UTF-8"'),
        ]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _is_known(self, scope: Scope) -> bool:
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        return self._check.knows(sent)


def _secret(value: bytes) -> bytes:
    """What an Authorization header holds: the bearer's token or the password; b"" of any other."""
    scheme, _, rest = value.strip().partition(b" ")
    rest = rest.strip()
    if scheme.lower() == b"bearer":
        return rest
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(rest, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _checked(key: str, where: str) -> str:
    if not key:
        raise ConfigError(f"{where} holds no API key: it is empty.")
    if not all("!" <= character <= "~" for character in key):
        raise ConfigError(
            f"{where}: an API key is of printable ASCII characters, on one line, without spaces."
        )
    return key
