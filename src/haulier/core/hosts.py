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
    if not all("!" <= character <= "~" for character in url):
        raise ValueError(
            "must be visible ASCII: others are %XX in a path, and in a host what its punycode is (xn--...)"
        )
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it is the check
    except ValueError:  # its words may be a part of a password
        raise ValueError(f"must be an address like {example}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"must look like {example}")
    if parts.fragment:
        raise ValueError("must not have a fragment")
    return parts


def shown_address(url: str) -> str:
    """Return an address as people, logs and errors are shown it: who may use it, and with what, is `***` in it.

    What cannot be taken apart, and may have a secret in it, is not shown at all.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - as above
    except ValueError:
        return "***" if set(url) & set("@?#") else url
    _, at, host = parts.netloc.rpartition("@")
    if "@" in url and not parts.netloc:
        return "***"
    return parts._replace(
        netloc=f"***@{host}" if at else host,
        query=parts.query and "***",
        fragment=parts.fragment and "***",
    ).geturl()
