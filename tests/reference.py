"""Generates the client's API reference from its docstrings: `python -m tests.reference`.

    pagesight.__all__ ──source, ast──> signatures, docstrings, fields with their docs ──> client.md

Fields are documented by the string below them, which exists only in the source. `make docs` runs
this.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pagesight

TARGET = Path(__file__).parents[1] / "docs" / "client.md"

_HEAD = """# The client, name by name

Made from the docstrings by `make docs`; a test fails when it is stale. Everything is imported
from `pagesight`; the names that are not here are private. Guides and examples: the
[README](../README.md) and [examples/](../examples).
"""

_GROUPS = {
    "Clients": ("Client", "AsyncClient"),
    "Settings": ("RetryPolicy", "TlsConfig", "ClassifyOptions", "ChangeOptions"),
    "Errors": (),
    "Values": (),
}
_MODULES = ("_inputs", "_classification", "_changes", "_listings", "_curation", "_review")
"""Those of the values that have constants or aliases."""


def reference() -> str:
    """The whole page, as Markdown."""
    names = {name: getattr(pagesight, name) for name in pagesight.__all__}
    errors = [n for n, v in names.items() if inspect.isclass(v) and issubclass(v, Exception)]
    named = {name for group in _GROUPS.values() for name in group} | set(errors)
    values = [n for n, v in names.items() if n not in named and inspect.isclass(v)]
    groups = _GROUPS | {"Errors": tuple(errors), "Values": tuple(values)}
    parts = [_HEAD]
    for title, group in groups.items():
        parts.append(f"## {title}\n")
        parts += [_class(name, names[name]) for name in group]
    parts.append("## Other names\n")
    parts += list(_constants(set(names) - named - set(values)))
    return "\n".join(parts)


def _class(name: str, kind: type) -> str:
    lines = [f"### {name}\n", _doc(kind)]
    if issubclass(kind, Exception):
        return "\n".join(lines)
    fields = _fields(kind)
    if fields:
        lines += [f"- `{field}`{': ' + doc if doc else ''}" for field, doc in fields]
        lines.append("")
    else:
        lines.append(f"```python\n{name}{_signature(kind.__init__, kind)}\n```\n")
        lines.append(_doc(kind.__init__))
    for method_name in sorted(n for n in dir(kind) if not n.startswith("_")):
        method = inspect.getattr_static(kind, method_name)
        if isinstance(method, property):
            lines.append(f"- `{method_name}`: {_doc(method).strip()}\n")
        elif inspect.isfunction(method) and method.__doc__:
            prefix = "async def" if inspect.iscoroutinefunction(method) else "def"
            lines.append(f"#### {name}.{method_name}\n")
            signature = _signature(method, kind)
            lines.append(f"```python\n{prefix} {method_name}{signature}\n```\n")
            lines.append(_doc(method))
    return "\n".join(lines)


def _doc(value: object) -> str:
    """A docstring as Markdown; its sections, such as Args, become literal blocks."""
    text = inspect.cleandoc(getattr(value, "__doc__", None) or "")
    parts = []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith(("Args:", "Raises:", "Example:", "Attributes:", "Returns:")):
            title, _, body = paragraph.partition("\n")
            parts.append(f"{title}\n\n```text\n{textwrap.dedent(body)}\n```")
        else:
            parts.append(paragraph)
    return "\n\n".join(parts) + "\n"


def _signature(function: object, kind: type) -> str:
    """The signature of a function as in the source, without `self`."""
    source = textwrap.dedent(inspect.getsource(function))  # type: ignore[arg-type]
    node = next(
        n
        for n in ast.walk(ast.parse(source))
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    node.args.args = [arg for arg in node.args.args if arg.arg != "self"]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    flat = f"({ast.unparse(node.args)}){returns if node.name != '__init__' else ''}"
    return flat if len(flat) < 80 else _broken(flat)


def _broken(flat: str) -> str:
    """A signature with one parameter a line."""
    depth, start, parts = 0, 1, []
    for position, char in enumerate(flat):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0:
            parts.append(flat[start:position])
            return "(\n" + "".join(f"    {part.strip()},\n" for part in parts) + flat[position:]
        if char == "," and depth == 1:
            parts.append(flat[start:position])
            start = position + 1
    raise AssertionError(flat)


def _fields(kind: type) -> list[tuple[str, str]]:
    """The annotated fields of a class, each with the string below it."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    fields = []
    for node, after in zip(body.body, [*body.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and not ast.unparse(node.annotation).startswith("Class"):
            default = f" = {ast.unparse(node.value)}" if node.value is not None else ""
            if default.startswith(" = field("):
                default = ""
            name = f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}{default}"
            fields.append((name, _string(after)))
    return fields


def _string(node: ast.stmt | None) -> str:
    """The text of a statement that is a string; empty for any other."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return " ".join(str(node.value.value).split())
    return ""


def _constants(names: set[str]) -> Iterator[str]:
    """Constants and aliases of the values, each with the string below it."""
    modules = (sys.modules[f"pagesight.{name}"] for name in _MODULES)
    body = [node for module in modules for node in ast.parse(inspect.getsource(module)).body]
    for node, after in zip(body, [*body[1:], None], strict=True):
        targets = (
            [node.target]
            if isinstance(node, ast.AnnAssign)
            else node.targets
            if isinstance(node, ast.Assign)
            else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and target.id in names:
                yield f"- `{target.id}`: {_string(after)}"
    yield ""


if __name__ == "__main__":
    TARGET.write_text(reference(), "utf-8")
