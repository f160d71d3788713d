"""Refuse files that do not belong in Git: over one MiB, or data, a model or a cache.

    python .ci/check_files.py FILE...

One line for each such file, and exit status 1. DVC keeps data and models. .gitignore names the
caches, but `git add --force` ignores it.
"""

import re
import sys
from pathlib import Path

MIB = 1 << 20
ELSEWHERE = re.compile(
    r"""(^|/)(\.venv|\.scratch|\.dvc/(cache|tmp)|__pycache__|\.\w+_cache|\.hypothesis)/  # caches
    | ^(data|models)/
    | \.(zip|jpe?g|dcm|npy|npz|keras|h5|onnx|tflite|pb|pkl|pyc)$""",
    re.VERBOSE | re.IGNORECASE,
)


def objections(names: list[str]) -> list[str]:
    """A line for each file that must stay out of Git, in the order given."""
    found = []
    for name in names:
        n_bytes = Path(name).lstat().st_size
        if ELSEWHERE.search(name):
            found.append(f"{name}: expected no data, model or cache in Git")
        elif n_bytes > MIB:
            found.append(f"{name}: expected at most {MIB} bytes. Received: {n_bytes}")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(objections(sys.argv[1:])) or None)
