"""Which addresses may be connected to: those of the public internet, and those that a user allows.

`ipaddress.is_global` alone would let through what no page should reach: it calls multicast global, knows nothing of the IPv4
address within an IPv6 one, and changes with Python's version. So what is special is listed here, and of IPv6 only what is
handed out as global unicast is public.
"""

import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from ....errors import ConfigError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SPECIAL_V4 = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
            *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            "168.63.129.16/32",  # public by its number, but in one cloud it is the host of every machine
        ),
    )
)
"""IANA's registry of special purposes, multicast and what is reserved, and one address more."""
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")))
"""Within global unicast: Teredo, benchmarks and the like, documentation, 6to4, and what nobody may answer."""
_NAT64 = IPv6Network("64:ff9b::/96")
_NUMBER = r"(?:0x[0-9a-f]*|[0-9]+)"
_NUMERIC = re.compile(rf"{_NUMBER}(?:\.{_NUMBER}){{0,3}}\.?", re.ASCII | re.IGNORECASE)
_ENDS_IN_A_NUMBER = re.compile(rf"(?:.*\.)?{_NUMBER}\.?", re.ASCII | re.IGNORECASE)


def networks(allowed: Iterable[str]) -> tuple[Network, ...]:
    """Returns networks that are written as text.

    Args:
        allowed: such as "10.1.0.0/16", or a single address.

    Raises:
        ConfigError: one is none.
    """
    found: list[Network] = []
    for each in allowed:
        try:
            found.append(ip_network(each))
        except ValueError as error:
            raise ConfigError(
                f"allow must hold networks such as '10.1.0.0/16', or addresses; got {each!r} ({error})."
            ) from None
    return tuple(found)


def is_allowed(address: Address, allowed: Iterable[Network] = ()) -> bool:
    """Whether an address may be connected to.

    An IPv6 address that carries an IPv4 one for the network to unwrap (IPv4-mapped, NAT64) is judged as that one.

    Args:
        address: what a name was resolved to.
        allowed: networks that may be reached though they are not public.

    >>> [is_allowed(ip_address(each)) for each in ("93.184.215.14", "10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1")]
    [True, False, False, False]
    >>> is_allowed(ip_address("::ffff:10.0.0.1"), networks(["10.0.0.0/8"]))
    True
    """
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    address = _unwrapped(address)
    if any(address in network for network in allowed):
        return True
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _SPECIAL_V4)
    return address.is_global and address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_V6)


def literal(host: str) -> Address | None:
    """Returns the address that a host is itself, None for a name.

    A host whose last part is a number is an IPv4 address in every form that systems read: decimal, octal, hexadecimal, with
    fewer than four parts.

    Raises:
        ValueError: it ends in a number, and is not a valid address.

    >>> [str(literal(host)) for host in ("127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.01", "::1")]
    ['127.0.0.1', '127.0.0.1', '127.0.0.1', '127.0.0.1', '::1']
    >>> literal("example.org") is None
    True
    """
    if ":" in host:
        return ip_address(host)
    if not _ENDS_IN_A_NUMBER.fullmatch(host):
        return None
    if not _NUMERIC.fullmatch(host):
        raise ValueError(f"{host!r} is not a valid address")
    try:
        return IPv4Address(socket.inet_aton(host.rstrip(".")))
    except OSError:
        raise ValueError(f"{host!r} is not a valid address") from None


def _unwrapped(address: Address) -> Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
