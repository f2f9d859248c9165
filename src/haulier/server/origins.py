"""Whose page asks.

Source: the WHATWG Fetch standard, section "`Origin` header": browsers send it with everything that a page of another
origin may do harm with, and no page can change it.
"""

from urllib.parse import urlsplit

from starlette.types import Scope

from haulier.server.addresses import PUBLIC_URL, headers_named


def foreign_origin(scope: Scope) -> str | None:
    """Return the origin of a page that is not our own; None: our own page asks, or none at all."""
    given = headers_named(scope, b"origin")
    if not given or (len(given) == 1 and given[0] in _own_origins(scope)):
        return None
    return ", ".join(given)


def _own_origins(scope: Scope) -> set[str]:
    own = set()
    hosts = headers_named(scope, b"host")
    if len(hosts) == 1:
        own.add(f"{scope.get('scheme', 'http')}://{hosts[0].lower()}")
    if PUBLIC_URL in scope:
        public = urlsplit(scope[PUBLIC_URL])
        own.add(f"{public.scheme}://{public.netloc}")
    return own
