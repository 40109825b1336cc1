from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest
from django.core.exceptions import ValidationError
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from pricing.addresses import Resolver, check_base_url, is_public, resolve

PUBLIC = "93.184.215.14"
PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "198.18.0.1",
    "203.0.113.7",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:10.0.0.1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001::1",
    "2001:db8::1",
    "3fff::1",
    "4000::1",
    "not an address",
    "",
]
SPELLINGS_OF_LOOPBACK = [
    "127.1",
    "127.0.1",
    "0x7f000001",
    "0x7f.1",
    "0X7F.0.0.1",
    "017700000001",
    "0177.0.0.1",
    "2130706433",
    "127.0.0.1.",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "１２７.0.0.1",
    "127。0。0。1",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "api.localhost",
]


@pytest.fixture(scope="module", autouse=True)
def private_providers_refused() -> Iterator[None]:
    with override_settings(ALLOW_PRIVATE_PROVIDERS=False):
        yield


def answers(*addresses: str) -> Resolver:
    def resolver(host: str) -> Iterable[str]:
        return addresses

    return resolver


ALL_PUBLIC = answers(PUBLIC)


def fails(host: str) -> Iterable[str]:
    raise OSError("no such host")


def refusal(url: str, resolver: Resolver = ALL_PUBLIC) -> str:
    with pytest.raises(ValidationError) as refused:
        check_base_url(url, resolver)
    (sentence,) = refused.value.messages
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("ip", PRIVATE)
def test_what_is_not_on_the_public_internet(ip: str) -> None:
    assert not is_public(ip)


@pytest.mark.parametrize(
    "ip",
    [
        PUBLIC,
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "172.32.0.1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_what_is_public(ip: str) -> None:
    assert is_public(ip)


@given(st.ip_addresses(v=4))
def test_an_embedded_address_counts_as_itself(address: IPv4Address) -> None:
    high, low = divmod(int(address), 1 << 16)
    for carrier in (f"::ffff:{address}", f"64:ff9b::{high:x}:{low:x}", f"2002:{high:x}:{low:x}::1"):
        assert is_public(carrier) == is_public(str(address))


@given(st.ip_addresses())
def test_nothing_that_python_knows_as_private_is_public(address: IPv4Address | IPv6Address) -> None:
    if address.is_private or address.is_multicast or address.is_link_local or address.is_unspecified:
        carried = getattr(address, "ipv4_mapped", None)
        assert not is_public(str(address)) or (carried is not None and is_public(str(carried)))


@pytest.mark.parametrize("host", SPELLINGS_OF_LOOPBACK)
def test_loopback_is_refused_in_every_spelling(host: str) -> None:
    """Whatever a resolver would say: the name alone gives it away."""
    refusal(f"https://{host}/v1")
    refusal(f"https://{host}:8443/v1")


@pytest.mark.parametrize("ip", [ip for ip in PRIVATE if ip.replace(".", "").replace(":", "").isalnum()])
def test_a_private_address_is_refused_and_named(ip: str) -> None:
    host = f"[{ip}]" if ":" in ip else ip
    assert "not a public address" in refusal(f"https://{host}/v1")


@pytest.mark.parametrize("address", ["10.0.0.8", "169.254.169.254", "::1", "fe80::1%eth0", "::ffff:127.0.0.1"])
def test_a_name_with_one_private_address_is_refused(address: str) -> None:
    sentence = refusal("https://api.example.com/v1", answers(PUBLIC, address))
    assert address in sentence
    assert "api.example.com" in sentence


def test_the_system_resolves_names_to_all_their_addresses() -> None:
    assert set(resolve("localhost")) & {"127.0.0.1", "::1"}
    assert resolve(PUBLIC) == [PUBLIC]


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "https://api.openai.com:8443/v1",
        "https://API.OpenAI.com./v1",
        "https://bücher.example/v1",
        "https://my_models.example.com",
        f"https://{PUBLIC}/v1",
        "https://[2606:4700::1111]/v1",
    ],
)
def test_a_public_base_url_passes(url: str) -> None:
    check_base_url(url, answers(PUBLIC, "2606:4700::1111"))


def test_the_name_that_is_resolved_is_the_name_that_is_dialled() -> None:
    asked = []

    def resolver(host: str) -> Iterable[str]:
        asked.append(host)
        return [PUBLIC]

    check_base_url("https://Bücher.Example./v1", resolver)
    assert asked == ["xn--bcher-kva.example"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://api.openai.com/v1", "https://"),
        ("ftp://api.openai.com/v1", "https://"),
        ("file:///etc/passwd", "https://"),
        ("api.openai.com/v1", "https://"),
        ("", "https://"),
        ("https://", "host"),
        ("https:///v1", "host"),
        ("https://api.openai.com:0/v1", "host"),
        ("https://api.openai.com:99999/v1", "read"),
        ("https://[::1/v1", "read"),
        ("https://user:secret@api.openai.com/v1", "user name"),
        ("https://api.openai.com@127.0.0.1/v1", "user name"),
        ("https://@api.openai.com/v1", "user name"),
        ("https://api.openai.com/v1?key=1", "query"),
        ("https://api.openai.com/v1?", "query"),
        ("https://api.openai.com/v1#x", "fragment"),
        ("https://api.openai.com\\@127.0.0.1/v1", "backslash"),
        ("https://api.openai.com/ v1", "space"),
        ("https://127.0.0.1\t.example.com/v1", "space"),
        ("https://api.openai.com/v1\n", "space"),
        ("https://%31%32%37.0.0.1/v1", "valid name"),
        ("https://a..b/v1", "valid name"),
        (f"https://{'a' * 64}.com/v1", "valid name"),
        ("https://010.8.8.8/v1", "8.8.8.8"),
        ("https://134744072/v1", "8.8.8.8"),
    ],
)
def test_what_else_is_no_base_url_is_refused_with_the_reason(url: str, told: str) -> None:
    assert told in refusal(url)


@pytest.mark.parametrize("resolver", [fails, answers()])
def test_a_name_that_does_not_resolve_is_refused(resolver: Resolver) -> None:
    assert "does not resolve" in refusal("https://api.example.com/v1", resolver)


@given(st.text(max_size=60))
def test_any_text_is_judged(text: str) -> None:
    """Passing or refused; nothing else comes out."""
    for url in (text, f"https://{text}", f"https://{text}/v1", f"https://[{text}]/v1"):
        try:
            check_base_url(url, answers(PUBLIC))
        except ValidationError:
            continue


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:11434/v1", "http://localhost:1234", "https://[::1]/v1", "http://ollama:11434/v1"]
)
def test_private_providers_pass_where_they_are_allowed(url: str, settings: Settings) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = True
    check_base_url(url, fails)


def test_allowing_private_providers_allows_nothing_else(settings: Settings) -> None:
    settings.ALLOW_PRIVATE_PROVIDERS = True
    assert "user name" in refusal("http://user:secret@127.0.0.1/v1")
    assert "127.0.0.1" in refusal("http://0x7f000001/v1")
