"""The grammar of file names: which entries are radiographs, of which class, kind and patient."""

import re
from dataclasses import dataclass

from pneumonia.errors import PipelineError

KINDS = ("normal", "bacterial", "viral")
FOLDERS = ("train", "test")
CLASSES = ("NORMAL", "PNEUMONIA")  # the position is the label

# The names of version 2 of the study (and of its mirrors), then those of version 3, where the
# number in the middle is the patient's and the last one counts the patient's radiographs.
_NAMES = {
    "NORMAL": (
        re.compile(r"(?P<series>IM|NORMAL2-IM)-(?P<number>\d+)-\d+(?:-\d+)?", re.IGNORECASE),
        re.compile(r"(?P<version3>NORMAL)-(?P<number>\d+)-\d+", re.IGNORECASE),
    ),
    "PNEUMONIA": (
        re.compile(r"person(?P<number>\d+)_(?P<cause>bacteria|virus)_\d+(?:_\d+)?", re.IGNORECASE),
        re.compile(r"(?P<version3>BACTERIA|VIRUS)-(?P<number>\d+)-\d+", re.IGNORECASE),
    ),
}
_EXAMPLES = {
    "NORMAL": "IM-0115-0001, NORMAL2-IM-0115-0001 or NORMAL-115-0001",
    "PNEUMONIA": "person23_bacteria_91, person23_virus_91, BACTERIA-23-0001 or VIRUS-23-0001",
}
_KIND_OF = {"BACTERIA": "bacterial", "VIRUS": "viral"}

_ACCEPTED = ("jpeg", "jpg", "png")
# Images that this project does not read. To pass them over would lose radiographs silently.
_REFUSED = ("bmp", "dcm", "dicom", "gif", "jp2", "tif", "tiff", "webp")


@dataclass(frozen=True, order=True)
class Radiograph:
    """One image of the archive."""

    name: str  # folder, class and file, "train/NORMAL/IM-0115-0001.jpeg"; unique
    member: str  # its path inside the archive
    folder: str  # "train" or "test"; a val folder belongs to train
    label: int  # 1 = pneumonia, 0 = normal
    kind: str  # one of KINDS
    patient_id: str  # kind and number, "person23_bacteria", "IM-0115", "NORMAL2-IM-0115"


def radiograph_of(member: str) -> Radiograph | None:
    """The radiograph at a path inside the archive, or None where the path is none.

    The last three parts decide: {train,val,test}/{NORMAL,PNEUMONIA}/file. Folders, hidden files,
    `__MACOSX/` and files that are not images are None. The path is read, never used as a path.

    A patient is the pair of kind and number: `person23_bacteria` and `person23_virus` are in all
    likelihood two children. Zeros before the number and the case of letters make no other patient.

    Raises:
        PipelineError: an image in a class folder whose name gives no patient of that class, or
            whose format is not read.
    """
    parts = re.split(r"[/\\]", member)  # archives made on Windows may hold backslashes
    if len(parts) < 3 or "__MACOSX" in parts:
        return None
    folder, class_name, file = parts[-3:]
    stem, _, suffix = file.rpartition(".")
    suffix = suffix.lower()
    if (
        folder not in ("train", "val", "test")
        or class_name not in CLASSES
        or file.startswith(".")
        or not stem
        or suffix not in _ACCEPTED + _REFUSED
    ):
        return None
    if suffix in _REFUSED:
        raise PipelineError(
            f"{member!r} has a format that is not read. Accepted: {', '.join(_ACCEPTED)}"
        )
    match = next((m for pattern in _NAMES[class_name] if (m := pattern.fullmatch(stem))), None)
    if match is None:
        raise PipelineError(
            f"{member!r} gives no patient, and a radiograph without its patient cannot be split. "
            f"Accepted in {class_name}: {_EXAMPLES[class_name]}"
        )
    found = {key: text.upper() for key, text in match.groupdict().items() if text}
    number = int(found["number"])
    patient_id = f"person{number}_{found.get('cause', '').lower()}"
    if "version3" in found:
        patient_id = f"{found['version3']}-{number}"
    elif "series" in found:
        patient_id = f"{found['series']}-{number:04d}"
    folder = "train" if folder == "val" else folder
    return Radiograph(
        name=f"{folder}/{class_name}/{file}",
        member=member,
        folder=folder,
        label=CLASSES.index(class_name),
        kind=_KIND_OF.get(found.get("cause", found.get("version3", "")), "normal"),
        patient_id=patient_id,
    )
