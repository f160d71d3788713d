"""Write the documents that hold metrics of the baseline: README.md (its block) and MODEL_CARD.md.

`python -m pneumonia.documents`; with `--check` it writes nothing and fails where one is stale.
"""

import argparse
from pathlib import Path

from pneumonia.documents.card import CARD, model_card
from pneumonia.documents.readme import README, readme
from pneumonia.errors import PipelineError, run_stage
from pneumonia.store.files import write_text


def main(root: Path = Path(), *, check: bool = False) -> None:
    """Write both documents of the repository at `root`, or neither; or only check them.

    Raises:
        PipelineError: a file of the run is missing or broken, or the check fails.
    """
    documents = {README: readme(root), CARD: model_card(root)}
    if not check:
        for path, text in documents.items():
            write_text(root / path, text)
        return
    stale = [
        str(path)
        for path, text in documents.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    ]
    if stale:
        raise PipelineError(
            f"{' and '.join(stale)}: expected what the files of the run give. "
            "Received: something else; run `make documents`"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m pneumonia.documents", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one is stale")
    arguments = parser.parse_args()
    run_stage(lambda: main(check=arguments.check))
