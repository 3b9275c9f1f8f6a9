"""The shape of the tree: the engine builds without what only a node needs, no two files import each
other (but a module and its parent), no file outside tests is longer than 500 lines, no line wider
than 100 columns. Prints what breaks a rule and exits with 1."""

import pathlib
import re
import subprocess
import sys

CRATES = {"crdt": "crdt/src", "engine": "engine/src", "node": "src"}
LINES_MAX = 500
COLUMNS_MAX = 100
NOT_IN_ENGINE = ["tokio", "axum", "hyper", "clap", "libp2p", "image", "notify"]

faults = []


def modules(folder):
    found = {}
    for path in pathlib.Path(folder).rglob("*.rs"):
        parts = list(path.relative_to(folder).with_suffix("").parts)
        if parts[-1] == "mod":
            parts.pop()
        if parts == ["main"]:
            continue
        found["::".join([] if parts == ["lib"] else parts)] = path
    return found


def use_paths(tree):
    """The paths of a use declaration, its groups expanded."""
    tree = re.sub(r"\s+", " ", tree).strip()
    group = re.match(r"^((?:\w+::)*)\{(.*)\}$", tree)
    if not group:
        return [re.sub(r" as \w+$", "", tree)]
    depth, part, parts = 0, "", []
    for letter in group.group(2):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += letter
    parts.append(part)
    return [group.group(1) + path for one in parts if one.strip() for path in use_paths(one)]


def imports(name, path, known):
    text = re.sub(r"//[^\n]*", "", path.read_text())
    text = re.sub(r"#\[cfg\(test\)\]\s*mod tests \{.*", "", text, flags=re.S)
    paths = [one for tree in re.findall(r"\buse\s+([^;]+);", text) for one in use_paths(tree)]
    paths += re.findall(r"\b((?:crate|super)(?:::\w+)+)", text)
    here = name.split("::") if name else []
    for one in paths:
        base = list(here)
        if one.startswith("crate::"):
            base, one = [], one[len("crate::") :]
        elif one.startswith("super::"):
            while one.startswith("super::"):
                base, one = base[:-1], one[len("super::") :]
        parts = base + one.split("::")
        for length in range(len(parts), 0, -1):
            target = "::".join(parts[:length])
            if target in known:
                if target != name:
                    yield target
                break


def kin(one, other):
    """A module and its parent, or the root, which names everything."""
    parent = lambda name: name.rpartition("::")[0]
    return not one or not other or parent(one) == other or parent(other) == one


def circles(edges):
    """Strongly connected components of more than one module (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in edges[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = []
            while not component or component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in edges:
        if node not in index:
            visit(node)
    return found


sys.setrecursionlimit(10_000)
for crate, folder in CRATES.items():
    known = modules(folder)
    edges = {
        name: {other for other in imports(name, path, known) if not kin(name, other)}
        for name, path in known.items()
    }
    for circle in circles(edges):
        faults.append(f"{crate}: these files import each other: {', '.join(circle)}")

for folder in [*CRATES.values(), "fuzz/src", "benches", "examples"]:
    for path in sorted(pathlib.Path(folder).rglob("*.rs")):
        lines = path.read_text().split("\n")
        if len(lines) - 1 > LINES_MAX:
            faults.append(f"{path}: {len(lines) - 1} lines")
        for number, line in enumerate(lines, 1):
            if len(line) > COLUMNS_MAX:
                faults.append(f"{path}:{number}: {len(line)} columns")

tree = subprocess.run(
    ["cargo", "tree", "-p", "storysync-engine", "-e", "normal", "--prefix", "none", "--offline"],
    capture_output=True, text=True, check=True,
).stdout
for line in tree.splitlines():
    name = line.split(" ")[0]
    if any(name == banned or name.startswith(banned + "-") for banned in NOT_IN_ENGINE):
        faults.append(f"the engine depends on {name}")

for fault in faults:
    print(fault)
sys.exit(1 if faults else 0)
