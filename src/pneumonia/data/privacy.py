"""Keyed hashes in place of the names and patients of radiographs that are not public."""

import hashlib
import hmac
import os

from pneumonia.errors import PipelineError

KEY = "PNEUMONIA_KEY"
_MIN_KEY_BYTES = 16


def key_from_environment() -> bytes:
    """The secret key, from the environment variable `PNEUMONIA_KEY`.

    Raises:
        PipelineError: it is missing or short enough to be guessed.
    """
    key = os.environ.get(KEY, "").strip().encode()
    if len(key) < _MIN_KEY_BYTES:
        raise PipelineError(
            "radiographs that are not public need a secret key of at least "
            f"{_MIN_KEY_BYTES} characters in {KEY}, kept outside Git: keyed hashes then replace "
            f"their names in tables and plots. Received: {len(key)} characters. "
            "To make one: python -c 'import secrets; print(secrets.token_hex(32))'"
        )
    return key


def pseudonym(key: bytes, text: str) -> str:
    """HMAC-SHA256 (RFC 2104) of `text` under `key`, its first 16 hexadecimal digits.

    One key gives one text one pseudonym. Nobody without the key finds the text by trying the few
    thousand names there are, as with a plain hash. 64 bits keep a million names apart.
    """
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:16]
