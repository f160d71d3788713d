"""Records of the data sources: what is known of each, and the parameters that choose one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Self

from pydantic import Field, model_validator

from pneumonia.data.remote_file import Remote
from pneumonia.store.params import Section, require


@dataclass(frozen=True)
class Source:
    """A data set that the fetch stage knows."""

    name: str
    title: str
    remote: Remote | None  # None: drawn here
    licence: str
    citation: str
    public: bool  # names and patient ids may stand in figures
    counts: Mapping[tuple[str, str], int] | None  # images by (folder, kind); None: they vary


# Kermany et al. 2018, counted on a full copy.
_STUDY_COUNTS = MappingProxyType(
    {
        ("train", "normal"): 1349,
        ("train", "bacterial"): 2538,
        ("train", "viral"): 1345,
        ("test", "normal"): 234,
        ("test", "bacterial"): 242,
        ("test", "viral"): 148,
    }
)
_STUDY = (
    "Kermany, Zhang, Goldbaum: Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images "
    "for Classification, Mendeley Data, version 2, 2018, doi 10.17632/rscbjbr9sj.2"
)

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        source.name: source
        for source in (
            Source(
                name="chestxray2017",
                title="ChestXRay2017, the official archive",
                remote=Remote(
                    file="ChestXRay2017.zip",
                    address="https://data.mendeley.com/public-files/datasets/rscbjbr9sj/files/"
                    "f12eaf6d-6023-432f-acc9-80c9d7393433/file_downloaded",
                    sha256="13efc055629733dbab07877f8b3c9f81097840dbcdaa326a8542322c2281ce36",
                    md5=None,
                    n_bytes=1_235_512_464,
                ),
                licence="CC BY 4.0",
                citation=_STUDY,
                public=True,
                counts=_STUDY_COUNTS,
            ),
            Source(
                name="chestxray2017-224",
                title="ChestXRay2017, each image squashed to 224×224",
                remote=Remote(
                    file="ChestXRay2017-224.zip",
                    address=None,  # from a mirror, or made from the official archive
                    sha256="e773bdc701e8efff099f0978f3ff90d42d3be6d81fbebfcb5f5d2e71a3780663",
                    md5=None,
                    n_bytes=38_661_448,
                ),
                licence="CC BY 4.0",
                citation=f"{_STUDY}; resized",
                public=True,
                counts=_STUDY_COUNTS,
            ),
            Source(
                name="phantoms",
                title="Phantoms, synthetic radiographs drawn from geometry; no patients",
                remote=None,
                licence="MIT",
                citation="drawn by this repository",
                public=True,
                counts=None,
            ),
        )
    }
)


class FetchParams(Section):
    """Section `fetch` of params.yaml."""

    source: Literal["chestxray2017", "chestxray2017-224", "phantoms", "own"]
    archive: str | None = Field(
        description="own only: path, file:// or http(s):// address of a zip archive"
    )
    sha256: str | None = Field(description="own only: 64 hexadecimal digits")

    @model_validator(mode="after")
    def _own_and_only_own_names_an_archive(self) -> Self:
        for field, value in (("archive", self.archive), ("sha256", self.sha256)):
            if self.source == "own":
                # The archive itself is no dependency of the stage: only its hash shows DVC, and
                # readers of dvc.lock, which radiographs these were.
                require(bool(value), field, "be given when source is own", value)
            else:
                require(value is None, field, f"be null when source is {self.source}", value)
        require(
            self.sha256 is None or re.fullmatch("[0-9a-f]{64}", self.sha256) is not None,
            "sha256",
            "be 64 hexadecimal digits in lower case",
            self.sha256,
        )
        return self


def is_public(source: str) -> bool:
    """Whether figures on this source may carry file names and patient ids."""
    return source in SOURCES and SOURCES[source].public
