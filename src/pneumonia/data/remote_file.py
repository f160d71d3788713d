"""What is known of a file that lies elsewhere, for `pneumonia.data.downloads` and for records."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Remote:
    """A file that lies elsewhere, and what it must be."""

    file: str  # its name, also in a mirror
    address: str | None  # http or https; None: in mirrors only
    sha256: str | None  # 64 hexadecimal digits; None: known by its md5 only
    md5: str | None  # 32 hexadecimal digits; looked at where sha256 is None
    n_bytes: int | None  # None: not known
