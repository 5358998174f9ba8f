"""Writes the licences of everything that is linked into the binary: a list, then the texts.

Asks `cargo metadata` for the packages of a target, without those that only build or test, and takes
the texts from the sources of each. Texts that are the same to the letter stand there once. Whether
the licences are acceptable is for `tests/licences.rs` to say.
"""

import argparse
import json
import pathlib
import subprocess
import sys

TEXTS = ("licen", "copying", "notice", "copyright", "unlicense")


def linked_packages(target):
    """Returns the packages that the binary links, by name."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    (root,) = [id for id in nodes if packages[id]["name"] == "tidemill"]
    seen, waiting = set(), [root]
    while waiting:
        id = waiting.pop()
        if id in seen or is_macro(packages[id]):
            continue
        seen.add(id)
        for dependency in nodes[id]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    foreign = [packages[id] for id in seen if packages[id]["source"]]
    return sorted(foreign, key=lambda package: (package["name"], package["version"]))


def is_macro(package):
    """Reports whether a package runs in the compiler and nothing of it is linked."""
    return any("proc-macro" in target["kind"] for target in package["targets"])


def texts(folder):
    """Returns the licence files of a package's sources, also of C sources that it brings along."""
    names = [path for path in sorted(folder.rglob("*")) if path.name.lower().startswith(TEXTS)]
    plain = [path for path in names if path.suffix.lower() in ("", ".md", ".txt") and path.is_file()]
    return [path for path in plain if len(path.relative_to(folder).parts) <= 4]


def system_texts():
    """Returns what the toolchain links by itself: Rust's standard library, and musl."""
    root = subprocess.run(["rustc", "--print", "sysroot"], check=True, capture_output=True, text=True)
    folder = pathlib.Path(root.stdout.strip()) / "share/doc"
    found = [path for path in sorted(folder.rglob("*")) if path.name in ("COPYRIGHT", "LICENSE-MIT")]
    found.append(pathlib.Path("/usr/share/doc/musl-dev/copyright"))
    return [path for path in found if path.is_file()]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--target", required=True)
    packages = linked_packages(arguments.parse_args().target)
    where = {}
    print("Tidemill is licensed under the Apache License 2.0, see LICENSE. It contains:\n")
    for package in packages:
        name = f"{package['name']} {package['version']}"
        print(f"  {name}: {package['license']}  {package['repository'] or ''}".rstrip())
        for path in texts(pathlib.Path(package["manifest_path"]).parent):
            where.setdefault(path.read_text(errors="replace").strip(), []).append(name)
    print("  the Rust standard library: MIT OR Apache-2.0\n  musl: MIT\n  SQLite: public domain")
    for path in system_texts():
        name = "musl" if "musl" in str(path) else "the Rust standard library"
        where.setdefault(path.read_text(errors="replace").strip(), []).append(name)
    for text, names in where.items():
        print("\n" + "=" * 80 + "\n" + ", ".join(dict.fromkeys(names)) + "\n" + "-" * 80 + "\n" + text)
    if len(packages) < 50:
        sys.exit(f"only {len(packages)} packages: is the list complete?")


if __name__ == "__main__":
    main()
