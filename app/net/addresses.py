"""The IP addresses that a client's URL may reach. Pure: no lookup and no connection.

`ipaddress.is_global` changes between patch releases of Python, so the ranges are listed here: the
special-purpose registries of IANA, and services of clouds at addresses that look public.
"""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_GLOBAL_V6 = IPv6Network("2000::/3")  # all allocated addresses; NAT64, fc00 and fe80 are outside
_NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
        "100.64.0.0/10",  # carrier NAT; credentials of Alibaba Cloud are at 100.100.100.200
        "168.63.129.16/32",  # the wire server of Azure
        "169.254.0.0/16",  # link-local; credentials of all other clouds
        *("192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24"),
        "192.88.99.0/24",  # 6to4 relays
        *("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),  # documentation
        "198.18.0.0/15",  # benchmarks
        *("224.0.0.0/4", "240.0.0.0/4"),
        "2001::/23",  # Teredo, ORCHID, benchmarks
        *("2001:db8::/32", "3fff::/20"),  # documentation
        "2002::/16",  # 6to4: wraps any IPv4 address
        "2620:4f:8000::/48",
    )
)
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")  # these wrap an IPv4 address as well


class AddressNotAllowedError(Exception):
    """A client's URL must not reach this address."""


def check_ip_address(text: str, allowed: Sequence[Network] = ()) -> str:
    """Return the address to connect to. Raises AddressNotAllowedError.

    `allowed` networks are added to the public ones.
    """
    address = ip_address(text.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    is_outside = isinstance(address, IPv6Address) and (
        address not in _GLOBAL_V6 or address.packed[8:12] in _ISATAP
    )
    is_public = not is_outside and not _is_in(address, _NOT_PUBLIC)
    if not (_is_in(address, allowed) or is_public):
        raise AddressNotAllowedError(str(address))
    return str(address)


def address_in(host: str) -> str | None:
    """Return the address that a host spells in any form a resolver accepts, or None for a name.

    Raises AddressNotAllowedError if the host names an interface (`fe80::1%eth0`).
    """
    if ":" in host and "%" in host:
        raise AddressNotAllowedError(host)
    plain = host.removesuffix(".")
    try:
        return str(ip_address(plain))
    except ValueError:
        pass
    try:  # 127.1, 0x7f.1, 2130706433, 017700000001
        return str(IPv4Address(socket.inet_aton(plain)))
    except (OSError, UnicodeError):
        return None


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
