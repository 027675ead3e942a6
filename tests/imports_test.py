"""Modules import in one direction: none imports, by whatever way round, what imports it; inside functions neither."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import jaxsae

PACKAGE = Path(jaxsae.__file__).parent


def imports_by_module(package: Path) -> dict[str, set[str]]:
    """{module: modules of the same package that it names in an import statement}."""
    files = {".".join(f.relative_to(package.parent).with_suffix("").parts): f for f in package.rglob("*.py")}
    files = {name.removesuffix(".__init__"): file for name, file in files.items()}
    found: dict[str, set[str]] = {}
    for name, file in files.items():
        named: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                named |= whole & files.keys() | ({node.module} if whole - files.keys() else set())
        found[name] = named & files.keys()
    return found


def test_no_module_imports_what_imports_it():
    found = imports_by_module(PACKAGE)
    assert len(found) > 200 and "jaxsae.store.reader" in found["jaxsae.store"]
    list(TopologicalSorter(found).static_order())  # raises CycleError, which names the circle


def test_a_circle_is_found_inside_a_function_too(tmp_path):
    package = tmp_path / "circle"
    package.mkdir()
    (package / "__init__.py").write_text("from circle.one import f\n")
    (package / "one.py").write_text("def f():\n    from circle import two\n")
    (package / "two.py").write_text("from circle.one import f\n")
    with pytest.raises(CycleError, match=r"circle\.(one|two)"):
        list(TopologicalSorter(imports_by_module(package)).static_order())
