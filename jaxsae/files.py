"""Files written whole: a kill, or a full disk, leaves what was there before, never half of the new one."""

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` in UTF-8 beside the file and moves it over it."""
    path = Path(path)
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe: nothing may be moved over it
        path.write_text(text, encoding="utf-8")
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")
