"""May a stranger's URL reach this address? Pure: nothing is looked up and nothing is opened.

Python's own `is_global` gives other answers from one patch release to the next, so the ranges are
here: IANA's special-purpose registries, and what clouds put at addresses that look public.
"""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_GLOBAL_V6 = IPv6Network("2000::/3")  # all that was ever allocated; NAT64, fc00, fe80 are outside
_INNER = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
        "100.64.0.0/10",  # shared by carriers; Alibaba's credentials are at 100.100.100.200
        "168.63.129.16/32",  # Azure's wire server
        "169.254.0.0/16",  # link-local; everybody else's credentials
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
_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")  # what wraps an IPv4 address, too


class AddressRefusedError(Exception):
    """The address is not one that a stranger's URL may reach."""


def judge(text: str, allowed: Sequence[Network] = ()) -> str:
    """Return the address to connect to, or raise AddressRefusedError.

    `allowed` networks are let through besides the public ones.
    """
    address = _unwrapped(ip_address(text.partition("%")[0]))
    if not (_is_in(address, allowed) or _is_public(address)):
        raise AddressRefusedError(str(address))
    return str(address)


def literal_of(host: str) -> str | None:
    """Return the address that a host spells, in any form a resolver would take for one.

    None: it is a name. Raises AddressRefusedError where it names an interface (`fe80::1%eth0`).
    """
    if ":" in host and "%" in host:
        raise AddressRefusedError(host)
    plain = host.removesuffix(".")
    try:
        return str(ip_address(plain))
    except ValueError:
        pass
    try:  # 127.1, 0x7f.1, 2130706433, 017700000001
        return str(IPv4Address(socket.inet_aton(plain)))
    except (OSError, UnicodeError):
        return None


def _unwrapped(address: Address) -> Address:
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (
        address not in _GLOBAL_V6 or address.packed[8:12] in _ISATAP
    ):
        return False
    return not _is_in(address, _INNER)
