"""Write page.html, the page of `dvc plots`: page_frame.html with Vega inside.

DVC's own page loads Vega from the web, and stays blank without a network. Run this after a change
of the frame, or of VERSIONS; for other versions it needs npm:

    python .dvc/plots/make_page.py
"""

import hashlib
import json
import re
import subprocess
import tempfile
from pathlib import Path

# The newest of the major version that DVC's own templates are written for, which is Vega-Lite 5.
VERSIONS = {"vega": "5.33.1", "vega-lite": "5.23.0", "vega-embed": "6.29.0"}
HERE = Path(__file__).parent
FRAME, PAGE, LICENCES = HERE / "page_frame.html", HERE / "page.html", HERE / "page_licences.txt"


def main() -> None:
    """Put the scripts of the present page into the frame, or those of other VERSIONS."""
    scripts = re.findall(r"<script data-package=.*?</script>", PAGE.read_text("utf-8"), re.DOTALL)
    packages = [f"{name}@{version}" for name, version in VERSIONS.items()]
    if [script.split('"')[1] for script in scripts] != packages:
        with tempfile.TemporaryDirectory() as folder:
            # --ignore-scripts: only the files of the packages are wanted.
            subprocess.run(
                ["npm", "install", "--ignore-scripts", *packages], cwd=folder, check=True
            )
            modules = Path(folder, "node_modules")
            scripts = [script(modules, name, version) for name, version in VERSIONS.items()]
            LICENCES.write_text(licences(modules), "utf-8")
    PAGE.write_text(
        FRAME.read_text("utf-8").replace("<!-- scripts -->", "\n".join(scripts)), "utf-8"
    )


def script(modules: Path, name: str, version: str) -> str:
    """The element with a package's code, its version and the SHA-256 of the published file."""
    code = (modules / name / f"build/{name}.min.js").read_bytes()
    digest = hashlib.sha256(code).hexdigest()
    # In a string or a pattern of JavaScript the backslash changes nothing, and ends no element.
    text = re.sub(r"</(?=script)", r"<\\/", code.decode(), flags=re.IGNORECASE)
    return f'<script data-package="{name}@{version}" data-sha256="{digest}">{text}</script>'


def licences(modules: Path) -> str:
    """Each licence once, below the packages under it whose code the scripts contain."""
    packages = set(VERSIONS)
    for name in VERSIONS:
        sources = json.loads((modules / name / f"build/{name}.min.js.map").read_bytes())["sources"]
        # Vega's own parts are siblings of it (../../vega-util/build), others in node_modules.
        found = (re.match(r".*(?:node_modules|\.\.)/([^./][^/]*)/", source) for source in sources)
        packages |= {match[1] for match in found if match and match[1] != "src"}
    below: dict[str, list[str]] = {}
    for name in sorted(packages):
        # Some parts of Vega come without the file: they have Vega's licence.
        file = next((modules / name).glob("LICENSE*"), modules / "vega-canvas/LICENSE")
        below.setdefault(file.read_text("utf-8").strip(), []).append(name)
    parts = [f"{', '.join(names)}\n\n{text}\n" for text, names in below.items()]
    return f"\n{'=' * 72}\n\n".join(["page.html contains the code of these packages.\n", *parts])


if __name__ == "__main__":
    main()
