"""The papers say what is true: links lead somewhere, files and functions they name exist, every
command in them is one of the binary's, the README is short. Prints what is not and exits with 1.

    python3 tests/papers.py target/debug/storysync
"""

import pathlib
import re
import shlex
import subprocess
import sys

README_BYTES_MAX = 8 * 1024
BINARY = sys.argv[1]
ROOTS = [pathlib.Path(), pathlib.Path("engine/src"), pathlib.Path("crdt/src")]

papers = [pathlib.Path(name) for name in ("README.md", "CONTRIBUTING.md", "PROTOCOL.md")]
papers += sorted(pathlib.Path("docs").rglob("*.md"))
faults = []


def found(name):
    return next((root / name for root in ROOTS if (root / name).exists()), None)


for paper in papers:
    text = paper.read_text()
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"\s+", " ", text)):
        if not link.startswith("http") and not (paper.parent / link).exists():
            faults.append(f"{paper}: the link {link} leads nowhere")
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        for line in block.splitlines():
            if not line.startswith("storysync "):
                continue
            words = shlex.split(line.split(" | ")[0], comments=True)[1:]
            # What comes before the first placeholder, option or value is the command.
            command = [word for word in words if word == word.lower() and not word.startswith("-")]
            command = command[: next((i for i, w in enumerate(command) if not w.isalpha()), None)]
            while command:
                helped = subprocess.run([BINARY, *command, "--help"], capture_output=True)
                if helped.returncode == 0:
                    break
                command.pop()
            if not command:
                faults.append(f"{paper}: {line!r} is no command")

architecture = re.sub(r"\s+", " ", pathlib.Path("docs/architecture.md").read_text())
for name in set(re.findall(r"`((?:\w+/)+(?:\w+\.rs)?|\w+\.rs)`", architecture)):
    if found(name) is None and name not in ("row/", "schema/read.rs"):
        faults.append(f"docs/architecture.md: there is no {name}")
for function, file in re.findall(r"`(?:\w+::)?(\w+)` in `([\w/]+\.rs)`", architecture):
    path = found(file)
    if path is None or not re.search(rf"\b(fn|struct|enum) {function}\b", path.read_text()):
        faults.append(f"docs/architecture.md: there is no {function} in {file}")

size = len(pathlib.Path("README.md").read_bytes())
if size > README_BYTES_MAX:
    faults.append(f"README.md has {size} bytes")

for fault in faults:
    print(fault)
sys.exit(1 if faults else 0)
