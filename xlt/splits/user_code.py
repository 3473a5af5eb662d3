"""Files of code that a task depends on: its module, its functions, its kind, and the modules they import.

The files are found without running them. The standard library and installed packages do not count, because
their versions change seldom. xlt's own code does not count, because it has version numbers (READING_VERSION
and others); only the files in xlt/tasks have none and count, without comments, docstrings and layout.
"""

import ast
import functools
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

_XLT = Path(__file__).resolve().parents[1]
_INSTALLED = [
    Path(path).resolve()
    for path in (
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    )
]
_PACKAGES = {"site-packages", "dist-packages"}
_PLAIN = (str, bytes, int, float, type(None))


def user_code(value: Any, module: str = "") -> list[Path]:
    """Return the files of code that a value depends on, in the order of their modules' names.

    Args:
        value: A task, or another value whose fields hold functions and values.
        module: Name of the module that holds the value.
    """
    waiting = [module, *(name for name, _ in _walk(value, {}))]
    found: dict[str, Path | None] = {}
    while waiting:
        name = waiting.pop()
        # Python runs a package's own file before the files of its modules.
        for package in _with_packages(name):
            if package not in found:
                found[package] = path = _user_file(package)
                if path:
                    is_package = path.name == "__init__.py"
                    waiting += _imports(
                        package if is_package else package.rpartition(".")[0], path.read_bytes()
                    )
    return [path for _, path in sorted(found.items()) if path]


class _WithoutText(ast.NodeTransformer):
    """Removes docstrings, and other strings that stand alone."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        """Keep an expression unless it is a string."""
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node


def content_of(path: Path) -> bytes:
    """Return the content of a file that rows depend on: all bytes; of a task of xlt, the statements."""
    content = path.read_bytes()
    if not path.resolve().is_relative_to(_XLT):
        return content
    return ast.unparse(_WithoutText().visit(ast.parse(content))).encode()


def held_by(function: Any) -> list[str]:
    """Return the plain values that a function holds: a partial's arguments, closure, defaults, attributes."""
    leaves = [
        part for _, part in _walk(function, {}) if not isinstance(part, ModuleType) and not _parts_of(part)
    ]
    return [text for text in map(repr, leaves) if " at 0x" not in text]  # which is another in each process


def _walk(value: Any, seen: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    """Yield a value and all that it holds, each with the name of a module that defines it."""
    if isinstance(value, _PLAIN):
        yield "", value
    elif id(value) not in seen:
        seen[id(value)] = value  # kept, so that no other value gets its id
        for kind in (value if isinstance(value, type) else type(value)).__mro__:
            yield kind.__module__, value
        if isinstance(value, FunctionType | ModuleType):
            yield value.__name__ if isinstance(value, ModuleType) else value.__module__, value
        for part in _parts_of(value):
            yield from _walk(part, seen)


def _parts_of(value: Any) -> list[Any]:
    """Return the values that a value holds."""
    if isinstance(value, type):
        return []
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.items()]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, FunctionType):
        closure = [content for cell in value.__closure__ or () for content in _content(cell)]
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).items()]
        return [*closure, *defaults, *vars(value).values()]
    if isinstance(value, Mapping):
        return [*value.items()]
    if isinstance(value, tuple | list):
        return [*value]
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    # Values of libraries, such as a tokenizer, may hold anything.
    return [*getattr(value, "__dict__", {}).values()] if _user_file(type(value).__module__) else []


def _content(cell: CellType) -> list[Any]:
    """Return the value of a closure's variable, if it has one yet."""
    try:
        return [cell.cell_contents]
    except ValueError:
        return []


def _with_packages(module: str) -> list[str]:
    """Return the names of a module and of the packages around it, outermost first."""
    parts = module.split(".") if module else []
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _user_file(module: str) -> Path | None:
    """Return the file of a module of the user's, or of a task of xlt; None for any other module."""
    if module.partition(".")[0] in sys.stdlib_module_names and module != "__main__":
        return None
    file = getattr(sys.modules.get(module), "__file__", None) or _found(module)
    path = Path(file).resolve() if file else None
    if path is None or path.suffix != ".py" or not path.is_file():
        return None
    if path.is_relative_to(_XLT):
        return path if path.parent == _XLT / "tasks" and path.name != "__init__.py" else None
    is_installed = _PACKAGES & set(path.parts) or any(path.is_relative_to(folder) for folder in _INSTALLED)
    return None if is_installed else path


def _found(module: str) -> str | None:
    """Return the file that an import of a module would run."""
    places: Any = None
    spec = None
    for name in _with_packages(module):
        spec = PathFinder.find_spec(name, places)
        if spec is None:
            return None
        places = spec.submodule_search_locations or []
    return spec.origin if spec else None


@functools.cache
def _imports(package: str, code: bytes) -> tuple[str, ...]:
    """Return the names of the modules that code imports, and of all else that it imports by name.

    Args:
        package: Name of the package that the code's module is in, or is.
        code: The text of its file.
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return ()
    names: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = package.split(".") if package else []
            above = around[: len(around) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names |= dict.fromkeys([base, *(f"{base}.{alias.name}" for alias in node.names if base)])
    return tuple(names)
