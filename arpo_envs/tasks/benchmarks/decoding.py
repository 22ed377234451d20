"""Rows of benchmarks that are published in a form of their own: GAIA, HLE and xbench-DeepSearch."""

import base64
import binascii
from collections.abc import Mapping
from itertools import cycle
from typing import Any


def gaia(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a row of GAIA with the usual columns.

    Raises:
        ValueError: the question is about an attached file, or the answer is not public.
    """
    if row.get("file_name"):
        raise ValueError("the question is about an attached file, which a text environment cannot show")
    answer = row.get("final answer")
    if answer == "?":
        raise ValueError('the answer is hidden ("?"), as in all of the test split; use the validation split')
    if answer is None:
        return row  # a copy that has the usual columns already
    rest = {key: value for key, value in row.items() if key not in ("final answer", "annotator metadata", "task_id")}
    return rest | {"answer": answer, "id": row.get("task_id")}


def hle(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a row of HLE without what is for people; its answers are not encrypted, its images are data URLs.

    Raises:
        ValueError: the question is about an image.
    """
    if row.get("image"):
        raise ValueError("the question is about an image, which a text environment cannot show")
    unused = ("image", "image_preview", "rationale_image", "canary")
    return {key: value for key, value in row.items() if key not in unused}


def xbench(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a row of xbench-DeepSearch in plain text: its key is the canary in the same row.

    A row that has no column "prompt" is one that somebody decoded before.

    Raises:
        ValueError: the prompt or the answer is not encrypted with this canary.
    """
    if "prompt" not in row:
        return {key: value for key, value in row.items() if key != "canary"}
    canary = row.get("canary")
    if not isinstance(canary, str) or not canary:
        raise ValueError("a canary, which is the key to the row, is missing")
    plain = {name: decrypted(row.get(name), canary, name) for name in ("prompt", "answer")}
    return {"question": plain["prompt"], "answer": plain["answer"], "id": row.get("id")}


def decrypted(text: object, canary: str, column: str) -> str:
    """Returns a text that was combined with a key by exclusive or, byte by byte, and written as base64.

    Args:
        text: what is published.
        canary: the key, repeated as often as needed.
        column: where the text stands, for messages.

    Raises:
        ValueError: it is not base64, or not text after decryption.

    >>> decrypted("MwAQChI=", "cab", "answer")
    'Paris'
    """
    if not isinstance(text, str):
        raise ValueError(f"{column!r} is not text")
    try:
        secret = base64.b64decode(text, validate=True)
        return bytes(byte ^ key for byte, key in zip(secret, cycle(canary.encode()), strict=False)).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{column!r} is not encrypted with this canary ({error})") from error
