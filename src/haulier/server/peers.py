"""Whose connection it is: the user at the other end of a loopback connection, as Linux tells it.

Source: Linux, Documentation/networking/proc_net_tcp.rst.
"""

import sys
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

Address = tuple[str, int]


def socket_uid(client: Address, server: Address) -> int | None:
    """Return the user who owns the client's end of a loopback connection, None when nobody can tell.

    A closed end belongs to nobody any more: the kernel lists it under user 0, so only ends that
    still have an inode count.
    """
    try:
        near, far = ip_address(client[0]), ip_address(server[0])
    except ValueError:
        return None
    near4, far4 = _v4(near), _v4(far)
    if near4 is not None and far4 is not None:
        uid = _find(_rows("/proc/net/tcp"), _hex(near4, client[1]), _hex(far4, server[1]))
        if uid is not None:
            return uid
    return _find(_rows("/proc/net/tcp6"), _hex(_v6(near), client[1]), _hex(_v6(far), server[1]))


def _rows(table: str) -> Iterable[str]:
    try:
        return Path(table).read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return ()  # a kernel without IPv6 has no second table; nothing found means nobody can tell


def _find(rows: Iterable[str], local: str, remote: str) -> int | None:
    for row in rows:
        if local in row:
            columns = row.split()
            if columns[1] == local and columns[2] == remote and columns[9] != "0":
                return int(columns[7])
    return None


def _v4(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    return address if isinstance(address, IPv4Address) else address.ipv4_mapped


def _v6(address: IPv4Address | IPv6Address) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(f"::ffff:{address}")


def _hex(address: IPv4Address | IPv6Address, port: int) -> str:
    """Return an end as the tables write it: 32-bit words in the machine's byte order, then the port."""
    packed = address.packed
    words = (packed[start : start + 4] for start in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{port:04X}"
