"""Which domain a URL is of: one comparison for everything that leaves domains out."""

import unicodedata
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit


def host_of(url: str) -> str:
    r"""Returns the host of a URL as names are compared: ASCII, in small letters, without a dot at its end; "" if it has none.

    Read is what a client would connect to: user names and ports do not count, escapes and other spellings of a name do.

    >>> host_of("https://me@WWW.Bücher.Example.:8080/x"), host_of("http://a%2Eexample\\@b.example/")
    ('www.xn--bcher-kva.example', 'a.example')
    """
    text = url.strip().replace("\\", "/")
    try:
        name = urlsplit(text if "//" in text else f"//{text}").hostname or ""
    except ValueError:  # not an address, so of no domain
        return ""
    return ascii_name(unquote(name))


def ascii_name(name: str) -> str:
    """Returns a domain's name as names are compared.

    >>> ascii_name(".BÜCHER.example."), ascii_name("ｅxample。org")
    ('xn--bcher-kva.example', 'example.org')
    """
    name = unicodedata.normalize("NFKC", name).casefold().replace("。", ".").strip(". ")
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:  # no name that could be looked up
        return name


def is_within(url: str, domains: Sequence[str]) -> bool:
    """Says whether a URL is of one of several domains, or of one below them.

    Args:
        url: any text.
        domains: names such as "example.org", as `ascii_name` writes them.

    >>> is_within("https://docs.example.org/a", ["example.org"]), is_within("https://myexample.org/", ["example.org"])
    (True, False)
    """
    host = host_of(url)
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)
