"""Keys of commands, read from source code that is not run, so that help is printed without any library.

A key is a parameter of a class or a function, or the argument of an `add_argument` call. Its help is the
parameter's entry in the docstring, or the call's own `help`.
"""

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docstring_parser import parse

PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Key:
    """A key of a command.

    Args:
        name: Name without dashes, such as learning_rate.
        help: Help text.
        annotation: Type, such as `int | None`.
        default: Default, as a user writes it. None if the key is required.
        is_positional: True if the command line gives the value without a name.
    """

    name: str
    help: str
    annotation: str
    default: str | None
    is_positional: bool = False


@dataclass(frozen=True)
class Signature:
    """Title and keys of a class or a function.

    Args:
        title: First sentence of the docstring.
        keys: The keys in the order of the parameters.
    """

    title: str
    keys: tuple[Key, ...]


def docstring_of(module: str) -> str:
    """Return the docstring of a module, such as `xlt.fit`."""
    return ast.get_docstring(_tree(module)) or ""


def signature_of(module: str, name: str) -> Signature:
    """Return title and keys of a class or a function of a module.

    Raises:
        LookupError: The module has no such class or function.
    """
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            text = parse(ast.get_docstring(node) or "")
            helps = {found.arg_name: " ".join((found.description or "").split()) for found in text.params}
            keys = [
                Key(name, helps.get(name, ""), annotation, default)
                for name, annotation, default in _parameters(node)
            ]
            return Signature(text.short_description or "", tuple(keys))
    raise LookupError(f"{module} has no {name}")


def arguments_of(module: str) -> tuple[Key, ...]:
    """Return the keys that a module adds to its parser by `add_argument` calls, in their order.

    A call whose name is no constant is left out.
    """
    return tuple(
        _argument(node)
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "add_argument"
        and all(isinstance(name, ast.Constant) for name in node.args)
    )


@functools.cache
def _tree(module: str) -> ast.Module:
    """Return the syntax tree of a module of xlt."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return ast.parse(path.with_suffix(".py").read_text(encoding="utf-8"))


def _parameters(node: ast.ClassDef | ast.FunctionDef) -> Iterator[tuple[str, str, str | None]]:
    """Yield name, type and default of the parameters of a function, of `__init__`, or of a dataclass."""
    if isinstance(node, ast.ClassDef):
        found = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
        if not found:
            for field in node.body:
                if isinstance(field, ast.AnnAssign):
                    yield ast.unparse(field.target), ast.unparse(field.annotation), _written(field.value)
            return
        node = found[0]
    given = [None] * (len(node.args.args) - len(node.args.defaults)) + node.args.defaults
    for parameter, default in zip(node.args.args, given, strict=True):
        if parameter.annotation is not None:
            yield parameter.arg, ast.unparse(parameter.annotation), _written(default)


def _argument(call: ast.Call) -> Key:
    """Return the key of an `add_argument` call."""
    names = [str(ast.literal_eval(name)) for name in call.args]
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    is_positional = not names[-1].startswith("-")
    is_required = "required" in given and ast.literal_eval(given["required"])
    type_ = ast.unparse(given["type"]) if "type" in given else "str"
    default = None if is_required else _written(given.get("default", ast.Constant(None)))
    help_ = str(ast.literal_eval(given["help"]))
    is_flag = "action" in given and ast.unparse(given["action"]) == "'store_true'"
    annotation = "Flag" if is_flag else "File" if "action" in given else type_
    return Key(names[-1].lstrip("-"), help_, annotation, default, is_positional)


def _written(node: ast.expr | None) -> str | None:
    """Return a default as a user writes it: null, true, 0.1, a text; None if there is no default."""
    if node is None:
        return None
    if isinstance(node, ast.Call):  # Path("runs"), field(default_factory=dict)
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        return {"dict": "{}", "list": "[]"}.get(ast.unparse(values[0])) or _written(values[0])
    if isinstance(node, ast.Constant):
        return {"None": "null", "True": "true", "False": "false"}.get(str(node.value), str(node.value))
    return re.sub(r"'", "", ast.unparse(node))
