"""Which addresses are public: a table, and one pure function over it.

The standard library's `is_global` isn't used: what it says differs between the Pythons that we run on, and some
services for machines of a cloud are at addresses that it calls public.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

__all__ = ["Address", "Network", "why_not", "why_not_public"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# What tells secrets to whoever asks from the machine. A wide network in `allow_networks` doesn't open these.
_METADATA = frozenset(
    {
        "169.254.169.254",  # most clouds
        "169.254.169.253",  # Amazon: DNS
        "169.254.170.2",  # Amazon: containers
        "169.254.170.23",  # Amazon: pods
        "169.254.0.23",  # Tencent
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's host, at an address that is public elsewhere
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # Amazon
        "fd00:ec2::23",  # Amazon: pods
        "fd20:ce::254",  # Google
    }
)

_V4 = [
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a carrier"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved for protocols"),
    ("192.0.2.0/24", "for documentation"),
    ("192.31.196.0/24", "reserved for protocols"),
    ("192.52.193.0/24", "reserved for protocols"),
    ("192.88.99.0/24", "a relay to IPv6"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "reserved for protocols"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
]
# Of IPv6 only 2000::/3 is the internet; these stand before that rule, or have a name.
_V6 = [
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::ffff:0:0/96", "an IPv4 address in disguise"),
    ("::ffff:0:0:0/96", "an IPv4 address in disguise"),
    ("::/96", "an IPv4 address in disguise"),
    ("64:ff9b:1::/48", "a local translation to IPv4"),
    ("100::/64", "discarded"),
    ("2001::/32", "a tunnel (Teredo)"),
    ("2001::/23", "reserved for protocols"),
    ("2001:db8::/32", "for documentation"),
    ("2002::/16", "a tunnel (6to4)"),
    ("2620:4f:8000::/48", "reserved for protocols"),
    ("3fff::/20", "for documentation"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
]
_TABLES: dict[int, list[tuple[Network, str]]] = {
    4: [(ip_network(text), reason) for text, reason in _V4],
    6: [(ip_network(text), reason) for text, reason in _V6],
}
_INTERNET = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


def why_not_public(address: Address) -> str | None:
    """What kind of address it is, if not one of the public internet."""
    if str(address) in _METADATA:
        return "metadata of a cloud"
    if isinstance(address, IPv6Address) and address in _NAT64:
        # Where there is only IPv6, this is how the IPv4 internet is reached: what counts is where it leads.
        return why_not_public(IPv4Address(int(address) & 0xFFFFFFFF))
    for network, reason in _TABLES[address.version]:
        if address in network:
            return reason
    if isinstance(address, IPv6Address) and (address.scope_id is not None or address not in _INTERNET):
        return "not of the public internet"
    return None


def why_not(address: Address, allowed: Sequence[Network] = (), *, is_allowed_host: bool = False) -> str | None:
    """The same, of an address that isn't in a network that is allowed.

    A service of metadata is never allowed by a host's name or by a wide network, only by its very address.
    """
    reason = why_not_public(address)
    if reason is None:
        return None
    around = [each for each in allowed if each.version == address.version and address in each]
    if any(each.num_addresses == 1 for each in around):
        return None
    return reason if reason.startswith("metadata") or not (around or is_allowed_host) else None
