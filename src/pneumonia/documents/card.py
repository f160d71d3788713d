"""MODEL_CARD.md, rendered from the files of the run: no number in it is typed by hand."""

from pathlib import Path

from pneumonia.documents import paper
from pneumonia.documents.render import rendered
from pneumonia.documents.run import INTERVALS, LOCK, outputs, read_run
from pneumonia.errors import PipelineError

CARD = Path("MODEL_CARD.md")
_FILES = {"model": "models/finetune.keras", "archive": "data/raw/radiographs.zip"}


def model_card(root: Path) -> str:
    """The text of MODEL_CARD.md for the run in the repository at `root`.

    Raises:
        PipelineError: a file of the run is missing or broken, or dvc.lock lacks an output.
    """
    run = read_run(root)
    locked = {output["path"]: output for _, output in outputs(run.lock or {})}
    missing = [f"{path} in {LOCK}" for path in _FILES.values() if path not in locked]
    missing += [] if run.metrics else [str(INTERVALS)]
    if missing:
        raise PipelineError(
            f"{CARD} needs {' and '.join(missing)}. Received: none; run `dvc repro`"
        )
    files = {name: locked[path] for name, path in _FILES.items()}
    comparison = paper.comparison(run)
    return rendered("model_card.md.jinja", run=run, comparison=comparison, paper=paper, **files)
