"""Which domain a URL is of: one comparison for everything that leaves domains out."""

import unicodedata
from collections.abc import Iterable, Sequence
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError

_LONGEST = 63
"""Letters of a part of a name; longer ones are no part of any, and Python takes long to read them."""


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

    Parts that are ASCII already (xn--…) are read first: by the older rules for names "ß" becomes "ss", by the newer ones not.

    >>> ascii_name(".BÜCHER.example."), ascii_name("ｅxample。org")
    ('xn--bcher-kva.example', 'example.org')
    >>> ascii_name("xn--strae-oqa.example") == ascii_name("straße.example")
    True
    """
    name = unicodedata.normalize("NFKC", name).casefold().replace("。", ".").strip(". ")
    return ".".join(map(_ascii, name.split(".")))


def _ascii(label: str) -> str:
    """Returns a part of a name as it is compared; one that cannot be looked up hides no part behind it."""
    try:
        read = label[4:].encode("ascii").decode("punycode") if label.startswith("xn--") and len(label) <= _LONGEST else label
        return unicodedata.normalize("NFKC", read).casefold().encode("idna").decode("ascii")
    except (UnicodeError, ValueError, OverflowError):
        return label


def ascii_names(domains: Iterable[str]) -> tuple[str, ...]:
    """Returns the names of domains that are to be left out, as names are compared.

    Raises:
        ConfigError: it is a single string, or one of them is something else than a name, which would leave out nothing.

    >>> ascii_names(["example.org", "BÜCHER.example"])
    ('example.org', 'xn--bcher-kva.example')
    """
    if isinstance(domains, str):
        raise ConfigError(f"Blocked domains are a list of names, got the string {domains!r}. Write [{domains!r}].")
    names = {domain: ascii_name(domain) for domain in domains}
    for domain, name in names.items():
        if not name or any(character in name for character in "/:@*? "):
            raise ConfigError(f"{domain!r} is not a domain. Write its name alone, such as example.org.")
    return tuple(names.values())


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
