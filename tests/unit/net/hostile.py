"""Addresses that no URL of a client may reach, and their spellings."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

HOSTILE = (
    *("127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),  # noqa: S104
    *("100.64.0.1", "100.100.100.200", "192.0.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *("192.88.99.1", "168.63.129.16", "::1", "::", "::127.0.0.1", "::ffff:127.0.0.1"),
    *("::ffff:169.254.169.254", "::ffff:0:169.254.169.254", "64:ff9b::127.0.0.1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::"),
    *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:0:0:0:0:0:5601:5601", "fe80::1"),
    *("fe80::1%eth0", "fe80::5efe:7f00:1", "2606:4700::5efe:a9fe:a9fe", "fc00::1"),
    *("fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "3fff::1", "100::1", "2001:2::1"),
    *("2001:10::1", "2001:20::1", "5f00::1", "4000::1", "e000::1"),
)
GOOD = (
    *("8.8.8.8", "1.1.1.1", "47.246.0.1", "100.128.0.1", "172.32.0.1", "168.63.129.17"),
    *("2606:4700:4700::1111", "2400:3200::1", "::ffff:8.8.8.8"),
)
WIDE = str.maketrans("0123456789.", "０１２３４５６７８９。")  # noqa: RUF001
DOTS = ("。", "．", "｡")  # noqa: RUF001


def spellings(address: str) -> Iterator[str]:
    """Yield hosts of URLs that some parsers read as the address."""
    plain = ip_address(address)
    if isinstance(plain, IPv4Address):
        yield from _of_v4(plain)
    else:
        yield from _of_v6(plain, address)


def _of_v4(plain: IPv4Address) -> Iterator[str]:
    a, b, c, d = plain.packed
    number = int(plain)
    yield from (str(plain), f"{plain}.", str(number), f"{number}.")
    yield from (f"{number:#x}", f"{number:#X}", f"0x{number:016x}", f"0{number:o}")
    yield from (f"{a:#x}.{b:#x}.{c:#x}.{d:#x}", f"{a:#X}.{b:#X}.{c:#X}.{d:#X}")
    yield from (f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"{a:04o}.{b:05o}.{c:06o}.{d:07o}")
    yield from (f"{a}.{number & 0xFFFFFF}", f"{a}.{b}.{number & 0xFFFF}")
    yield from (f"{a:#x}.{b}.0{c:o}.{d}", f"{a:#x}.{number & 0xFFFFFF:#x}", f"{a:03}.{b}.{c}.{d}")
    yield from (f"[::ffff:{plain}]", f"[::FFFF:{a:02X}{b:02X}:{c:02X}{d:02X}]")
    yield from (f"[0:0:0:0:0:ffff:{plain}]", f"[{plain}]")
    yield str(plain).translate(WIDE)
    yield from (str(plain).replace(".", dot) for dot in DOTS)
    yield from (str(plain).replace(".", "%2e"), "".join(f"%{ord(c):x}" for c in str(plain)))
    yield from (f"user@{plain}", f"public.test@{plain}", f"public.test\\@{plain}")


def _of_v6(plain: IPv6Address, address: str) -> Iterator[str]:
    bare = IPv6Address(plain.packed)
    yield from (f"[{bare}]", f"[{bare.exploded}]", f"[{bare.exploded.upper()}]")
    yield from (f"[{address}]", f"[{bare}%25eth0]", f"[{bare}%eth0]", f"[{bare}%251]")
    yield from (f"[{bare}].", str(bare), f"user@[{bare}]")
    tail = IPv4Address(bare.packed[12:])
    yield f"[{':'.join(bare.exploded.split(':')[:6])}:{tail}]"
