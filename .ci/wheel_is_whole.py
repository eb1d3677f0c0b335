"""Compares a wheel with the sources: each file that git keeps in a folder that pyproject.toml names is there.

usage: wheel_is_whole.py WHEEL
"""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

repository = Path(__file__).parent.parent
setuptools = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["setuptools"]
places = {package: PurePosixPath(package.replace(".", "/")) for package in setuptools["packages"]}
folders: dict[PurePosixPath, PurePosixPath] = {}  # of the sources → of the wheel
for package, place in places.items():
    root = max((root for root in setuptools["package-dir"] if f"{package}.".startswith(f"{root}.")), key=len)
    folder = PurePosixPath(setuptools["package-dir"][root]) / place.relative_to(places[root])
    for pattern in ("*", *setuptools["package-data"].get(package, ())):
        inner = PurePosixPath(pattern).parent
        folders[folder / inner] = place / inner

listing = subprocess.run(["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=True).stdout
files = [PurePosixPath(line) for line in listing.splitlines()]
shipped = {folders[file.parent] / file.name: file for file in files if file.parent in folders}
with zipfile.ZipFile(sys.argv[1]) as wheel:
    held = {PurePosixPath(name): wheel.read(name) for name in wheel.namelist()}
assert len({*folders} & {file.parent for file in files}) == len(folders), "a folder of pyproject.toml holds no file"
missing = [str(file) for place, file in shipped.items() if held.get(place) != (repository / file).read_bytes()]
sys.exit(f"the wheel lacks, or holds otherwise: {', '.join(missing)}" if missing else None)
