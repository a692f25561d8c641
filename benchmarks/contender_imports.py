"""Contender: a process that imports what a command of topwork needs, and does nothing else.

With ``--list``, the command is run, and its modules are written into the file.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from pathlib import Path


def main() -> None:
    if sys.argv[1] == "--list":
        list_modules(Path(sys.argv[2]), sys.argv[3:])
        return
    for name in json.loads(Path(sys.argv[1]).read_text("utf-8")):
        importlib.import_module(name)


def list_modules(path: Path, command: list[str]) -> None:
    """Run a command, and write the names of the modules that it imported, in their order."""
    before = set(sys.modules)
    from topwork.pipelines.cli.main import main as run

    sys.argv = ["topwork", *command]
    with contextlib.suppress(SystemExit):
        run()
    names = [name for name in sys.modules if name not in before and is_importable(name)]
    path.write_text(json.dumps(names), "utf-8")


def is_importable(name: str) -> bool:
    """Return whether a module can be imported by its name: some are made by others, and exist in memory alone."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


if __name__ == "__main__":
    main()
