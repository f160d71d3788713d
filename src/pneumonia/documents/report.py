"""The report of a run: one page of HTML with all that its files say, plots inside.

It leaves out what the run does not have, and says so in a line. It holds no date of today: the same
files at the same commit give the same bytes.
"""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

from pneumonia.documents import paper
from pneumonia.documents.readme import gate_verdict
from pneumonia.documents.render import rendered
from pneumonia.documents.run import Run, flat, outputs, read_run
from pneumonia.errors import PipelineError
from pneumonia.gate.ledger import FILMS, openings
from pneumonia.git import changed_paths, day_of, git

REPORT = Path("report/report.html")
_NO_GIT = "this is no Git checkout."


def report(root: Path) -> str:
    """The page about the run in the repository at `root`.

    It is HTML that needs no other file, no network and no script. Where the dataset is not public
    it names no radiograph, and shows no plot that it does not know.

    Raises:
        PipelineError: metrics/evaluate.json or params.yaml is missing, or a file is broken.
    """
    run = read_run(root)
    return rendered(
        "report.html.jinja",
        run=run,
        sentences=of_hundred(run),
        image=lambda path: address(path, run.plots[path]),
        kinds=_kinds(run),
        missed=_errors(run, label=1),
        false_alarms=_errors(run, label=0),
        parameters=[(k, v if isinstance(v, str) else json.dumps(v)) for k, v in flat(run.params)],
        other_parameters=_other_parameters(run),
        outputs=list(outputs(run.lock or {})),
        comparison=paper.comparison(run),
        paper=paper,
        study=FILMS,
        **_from_git(root),
    )


def of_hundred(run: Run) -> list[str]:
    """Three sentences on the verdicts on 100 people of whom 20 are ill; none without intervals.csv.

    They follow from recall and the predictive values at a prevalence of 20 %.
    """
    recall = run.metric("recall")
    ppv, npv = (run.metric(name, group="prevalence_20") for name in ("ppv", "npv"))
    if not (recall and ppv and npv and ppv.value):
        return []
    drawn = "phantoms" if run.dataset == "phantoms" else "patients"
    people = "children" if run.is_study else drawn
    found = 20 * recall.value
    n_found, n_alarms = round(found), round(found / ppv.value - found)
    few = "none is" if recall.value == 1 else "fewer than one is"
    if 20 - found >= 1:
        few = f"{20 - found:.0f} {'is' if n_found == 19 else 'are'}"
    # Rounded to 100 only where it is all.
    right = "99.9" if 0.9995 <= npv.value < 1 else f"{100 * npv.value:.1f}".removesuffix(".0")
    return [
        f"Of 100 {people} of whom 20 are ill, the model calls {n_found + n_alarms} ill: "
        f"{n_found} who are, and {n_alarms} who are not.",
        f"Of the 20 who are ill, {few} missed.",
        f"A pneumonia verdict is right in {100 * ppv.value:.0f} of 100 cases, a normal verdict in "
        f"{right} of 100.",
    ]


def address(path: str, data: bytes) -> str:
    """The plot as an address within a page, which is its bytes.

    Raises:
        PipelineError: the bytes are no PNG.
    """
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise PipelineError(
            f"{path}: expected a PNG image. Received: {len(data)} bytes that begin {data[:8]!r}"
        )
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _kinds(run: Run) -> list[tuple[Any, ...]]:
    """Kind, split, images and patients that have a prediction."""
    if run.predictions is None:
        return []
    counts = run.predictions.groupby(["kind", "split"]).agg(
        n_images=("name", "size"), n_patients=("patient_id", "nunique")
    )
    return list(counts.reset_index().itertuples(index=False, name=None))


def _errors(run: Run, *, label: int) -> list[tuple[Any, ...]]:
    """Name, kind and probability of the test images of a class with a wrong verdict.

    The furthest from the threshold come first. None where the dataset is not public.
    """
    if run.predictions is None or not run.is_public:
        return []
    test = run.predictions[run.predictions["split"] == "test"]
    called = test["probability"] >= run.evaluate["operating_threshold"]
    errors = test[(test["label"] == label) & (called != (label == 1))]
    errors = errors.sort_values(["probability", "name"], ascending=[label == 1, True])
    return list(errors[["name", "kind", "probability"]].itertuples(index=False, name=None))


def _other_parameters(run: Run) -> list[str]:
    """Names of parameters whose value is not the one that a stage ran with."""
    ran_with = {
        name: value
        for of in (run.lock or {}).get("stages", {}).values()
        for name, value in flat(of.get("params", {}).get("params.yaml", {}))
    }
    return [name for name, value in ran_with.items() if run.param(name) != value]


def _from_git(root: Path) -> dict[str, Any]:
    """Commit with its date, changed files, the gate's verdict, and looks at test.

    In place of the verdict or the looks stands the reason why there are none.
    """
    found: dict[str, Any] = {"commit": None, "gate": _NO_GIT, "looks": _NO_GIT}
    try:
        commit = git(root, "rev-parse", "--verify", "HEAD").strip()
    except (subprocess.CalledProcessError, OSError):  # no repository, no commit, no Git
        return found
    found["commit"], found["date"] = commit, day_of(root, commit)
    found["changed"] = changed_paths(root, commit, None)
    for key, ask in (("gate", gate_verdict), ("looks", openings)):
        try:
            found[key] = ask(root)
        except PipelineError as error:
            # Nobody who reads the page needs to know where this checkout lies.
            found[key] = f"{error}".replace(f"{root}/", "").replace(f"{root}: ", "")
    return found
