"""Which addresses a live site may connect to: the public ones, in whatever form they come."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arpo_envs.errors import ConfigError
from arpo_envs.tools.browser.http.addresses import is_allowed, literal, networks

REFUSED = (
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1"),
    *("172.31.255.255", "192.0.0.1", "192.0.0.9", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1"),
    *("198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "224.0.1.1", "239.255.255.255", "240.0.0.1"),
    *("255.255.255.255", "100.100.100.200", "168.63.129.16"),
    *("::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"),
    *("::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b::10.0.0.1"),
    *("64:ff9b:1::8.8.8.8", "64:ff9b:1::7f00:1", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1"),
    *("2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1"),
    *("fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fe80::1%1", "2606:4700::1%1", "fec0::1", "ff02::1", "ff0e::1", "4000::1"),
)
PUBLIC = (
    *("1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.169.0.1"),
    *("223.255.255.255", "11.0.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "198.20.0.0"),
    *("2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2001:200::1"),
)
V4 = st.integers(0, 2**32 - 1).map(IPv4Address)


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_not_public_is_refused(address: str) -> None:
    assert not is_allowed(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_allowed(address: str) -> None:
    assert is_allowed(ip_address(address))


@given(inner=V4 | st.sampled_from(["127.0.0.1", "10.0.0.1", "8.8.8.8"]).map(IPv4Address))
def test_an_address_within_another_counts(inner: IPv4Address) -> None:
    for wrapping in ("::ffff:0:0", "64:ff9b::"):
        outer = IPv6Address(int(IPv6Address(wrapping)) | int(inner))
        assert is_allowed(outer) == is_allowed(inner)
        assert is_allowed(outer, networks([f"{inner}/32"]))


@given(address=V4 | st.integers(0, 2**128 - 1).map(IPv6Address))
def test_whatever_is_allowed_is_public_to_python_too(address: IPv4Address | IPv6Address) -> None:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return
    if is_allowed(address):
        assert address.is_global
        assert not address.is_multicast


def written(address: IPv4Address) -> list[str]:
    """Returns an address in forms that systems read, by the definition of inet_aton."""
    a, b, c, d = address.packed
    return [
        *(str(int(address)), hex(int(address)), f"0{int(address):o}", f"{a}.{b}.{c}.{d}", f"{a}.{b}.{(c << 8) + d}"),
        *(f"{a}.{(b << 16) + (c << 8) + d}", f"0x{a:x}.0x{b:X}.{c}.{d}", f"0{a:o}.0{b:o}.{c}.0x{d:x}", f"{a}.{b}.{c}.{d}."),
    ]


@given(address=V4)
def test_every_form_of_an_address_is_that_address(address: IPv4Address) -> None:
    for form in written(address):
        assert literal(form) == address


@pytest.mark.parametrize("host", ["256.1.1.1", "1.2.3.4.5", "99999999999", "1.2.3.09", "a.1", "a.0x7f", "1..2", "::g", ":"])
def test_what_ends_in_a_number_and_is_no_address_is_nothing(host: str) -> None:
    with pytest.raises(ValueError):
        literal(host)


@pytest.mark.parametrize("host", ["example.org", "1.example", "0x7f.example", "localhost", "a1", "1a", "x-1", "7f"])
def test_names_are_no_addresses(host: str) -> None:
    assert literal(host) is None


def test_allowed_networks_are_checked() -> None:
    assert is_allowed(ip_address("10.1.2.3"), networks(["10.1.0.0/16", "::1"]))
    assert not is_allowed(ip_address("10.2.0.0"), networks(["10.1.0.0/16", "::1"]))
    assert is_allowed(ip_address("::1"), networks(["10.1.0.0/16", "::1"]))
    for wrong in ("10.1.2.3/16", "example.org", ""):
        with pytest.raises(ConfigError, match="allow must hold networks"):
            networks([wrong])
