"""Bytes of a page as text, as browsers decode them."""

import codecs
import re

_LOOKED_AT = 1024
"""Bytes in which a page may name its charset."""
_META = re.compile(rb"<meta[^>]*?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})|^<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]{1,40})", re.I)
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_CODECS = {
    **dict.fromkeys(("utf8", "unicode11utf8"), "utf-8"),
    **dict.fromkeys(("usascii", "ascii", "latin1", "l1", "iso88591"), "cp1252"),
    **{f"iso8859{part}": f"iso8859-{part}" for part in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)},
    **{f"{name}{page}": f"cp{page}" for page in range(1250, 1259) for name in ("windows", "cp")},
    **{"latin2": "iso8859-2", "iso88599": "cp1254", "latin5": "cp1254", "latin9": "iso8859-15", "iso885911": "cp874"},
    **{"windows874": "cp874", "tis620": "cp874", "koi8r": "koi8-r", "koi8u": "koi8-u", "ibm866": "cp866", "cp866": "cp866"},
    **{"macintosh": "mac-roman", "gbk": "gb18030", "gb2312": "gb18030", "gb18030": "gb18030", "big5": "big5hkscs"},
    **{"big5hkscs": "big5hkscs", "eucjp": "euc-jp", "shiftjis": "cp932", "sjis": "cp932", "xsjis": "cp932"},
    **{"windows31j": "cp932", "iso2022jp": "iso2022-jp", "euckr": "cp949", "ksc56011987": "cp949", "windows949": "cp949"},
    **{"utf16": "utf-16-le", "utf16le": "utf-16-le", "utf16be": "utf-16-be"},
}
"""Codecs for charsets by name, without what stands between letters and digits. Others are none: Python has codecs that are no
charsets, such as punycode, which takes hours for a megabyte."""


def decoded(body: bytes, charset: str = "") -> str:
    r"""Returns a page's text: by its byte order mark, or the charset that the server named, or that itself names, or UTF-8.

    Args:
        body: of the page.
        charset: from the header Content-Type.

    >>> decoded(b"caf\xe9", "ISO-8859-1"), decoded(b"<meta charset=windows-1251>\xcc\xe8\xf0")[-3:], decoded(b"\xff")
    ('café', 'Мир', '�')
    """
    for mark, codec in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(codec, "replace")
    return body.decode(_codec(charset) or _named(body) or "utf-8", "replace")


def _named(body: bytes) -> str:
    found = _META.search(body[:_LOOKED_AT])
    codec = _codec((found[1] or found[2]).decode("ascii", "replace")) if found else ""
    return "utf-8" if codec.startswith("utf-16") else codec  # it was legible so far


def _codec(charset: str) -> str:
    return _CODECS.get(re.sub(r"[-_:.\s]", "", charset).lower(), "")
