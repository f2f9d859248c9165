"""What the name or address of a host tells by itself."""

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit


def is_address(host: str) -> bool:
    """Whether a host is written as an address, not as a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, reached from nowhere else; of names only `localhost` is trusted."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def split_base(url: str, *, example: str) -> SplitResult:
    """Return the parts of an address that others are built on.

    Raises:
        ValueError: it is no http or https address; says what it must be.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it is the check
    except ValueError as error:
        raise ValueError(f"must be an address: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"must look like {example}")
    if parts.fragment:
        raise ValueError("must not have a fragment")
    return parts
