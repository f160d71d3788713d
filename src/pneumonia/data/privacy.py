"""Names and patients of films that are not public: keyed hashes stand in their place."""

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
            f"films that are not public need a secret key of at least {_MIN_KEY_BYTES} characters "
            f"in {KEY}, kept outside Git: figures then carry keyed hashes in place of names. "
            f"Received: {len(key)} characters. "
            "A new one: python -c 'import secrets; print(secrets.token_hex(32))'"
        )
    return key


def pseudonym(key: bytes, text: str) -> str:
    """HMAC-SHA256 of `text` under `key`, its first 16 hexadecimal digits.

    The same text has the same pseudonym under one key; without the key nobody can tell the text by
    trying the few thousand names there are, as with a plain hash. 64 bits keep a million names
    apart. Source of the method: RFC 2104.
    """
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:16]
