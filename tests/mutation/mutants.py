"""Mutants of one module: the same source with one small mistake each.

For: comparisons, boolean operands, constants, returns, conditions, statements, arguments, arithmetic. Refuses: mistakes that nobody could see or
would make: annotations, docstrings, `assert`, `__repr__`, sentences for people (any text with two words in it) and what is said to a log.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

_PAIRS: Final = (
    "Lt LtE GtE|LtE Lt Gt|Gt GtE LtE|GtE Gt Lt|Eq NotEq|NotEq Eq|Is IsNot|IsNot Is|In NotIn|NotIn In|And Or|Or And|Add Sub|Sub Add"
    "|Mult FloorDiv|Div Mult|FloorDiv Mult|Mod Mult|LShift RShift|RShift LShift|BitAnd BitOr|BitOr BitAnd"
)
OPPOSITE: Final = {
    getattr(ast, first): [getattr(ast, each) for each in others] for first, *others in map(str.split, _PAIRS.split("|"))
}
OTHER_NAME: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
CHANGING: Final = {"lower", "upper", "casefold", "strip", "rstrip", "lstrip", "translate", "replace"}
SIMPLE: Final = (ast.Compare, ast.Constant)  # a condition of these kinds is negated by a mistake of its own
NEVER: Final = {"annotation", "returns", "decorator_list"}
SILENT: Final = {"__slots__", "__all__", "__repr__"}
PROSE: Final = re.compile(r"\w\S* +\S*\w")


class Mutant(NamedTuple):
    """`function`: where (qualified name, "" for the module's own lines); `line`: text of the line; `change`: what was changed. The three outlive
    an edit elsewhere, the number of the line does not. `tree`: the whole program, until the next mutant is asked for."""

    function: str
    line: str
    change: str
    number: int
    tree: ast.Module


class Place(NamedTuple):
    """A node, how to put another there, and what is around it."""

    node: ast.AST
    put: Callable[[Any], None]
    function: str
    nested: bool  # in a branch, a loop or the like: leaving it out leaves something to run
    last: bool  # the last statement of its function


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant, in the order of the source."""
    tree = ast.parse(source)
    lines = source.splitlines()
    named: Counter[tuple[str, str, str]] = Counter()
    for place in list(_places(tree, "", False)):
        for change, other in list(_mistakes(place)):
            number: int = place.node.lineno  # type: ignore[attr-defined]
            name = (place.function, lines[number - 1].strip(), change)
            named[name] += 1
            place.put(ast.fix_missing_locations(ast.copy_location(other, place.node)))
            yield Mutant(*name[:2], change if named[name] == 1 else f"{change} ({named[name]})", number, tree)
            place.put(place.node)


def _places(parent: ast.AST, function: str, nested: bool) -> Iterator[Place]:
    for name, value in ast.iter_fields(parent):
        if name in NEVER:
            continue
        children = value if isinstance(value, list) else [value]
        for at, child in enumerate(children):
            if not isinstance(child, ast.AST) or _out_of_sight(child):
                continue

            def put(other: ast.AST, name: str = name, value: Any = value, at: int = at) -> None:
                if isinstance(value, list):
                    value[at] = other
                else:
                    setattr(parent, name, other)

            inside = isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef)
            last = inside and name == "body" and at == len(children) - 1
            if isinstance(child, ast.expr | ast.stmt) and not isinstance(parent, ast.FormattedValue):
                yield Place(child, put, function, nested, last)
            within, deep = function, nested
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                within, deep = f"{function}.{child.name}".lstrip("."), False
            elif isinstance(child, ast.If | ast.For | ast.While | ast.Try | ast.With | ast.ExceptHandler):
                deep = bool(function)
            yield from _places(child, within, deep)


def _out_of_sight(node: ast.AST) -> bool:
    match node:
        case ast.Assert() | ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
            return True
        case ast.JoinedStr():
            return _is_prose(node)
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=value))) if ast.unparse(value) in ("log", "self._log"):
            return True
        case ast.FunctionDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]) if name in SILENT:
            return True
    return False


def _mistakes(place: Place) -> Iterator[tuple[str, ast.AST]]:
    """What is changed, in words, and what stands there instead."""
    node = place.node
    for other in _expressions(node):
        yield f"{_short(node)} -> {_short(other)}", other
    match node:
        case ast.Return(value=value) if value is not None and ast.unparse(value) not in ("None", "True", "False"):
            yield f"{_short(node)} -> return None", ast.Return(ast.Constant(None))
        case ast.If() | ast.While() if not isinstance(node.test, SIMPLE) and not _is_not(node.test):
            changed = _copy(node, test=ast.UnaryOp(ast.Not(), node.test))
            yield f"{_short(node.test)} -> {_short(changed.test)}", changed
        case ast.AugAssign(op=op) if type(op) in OPPOSITE:
            other = _copy(node, op=OPPOSITE[type(op)][0]())
            yield f"{_short(node)} -> {_short(other)}", other
    if _may_go(place):
        yield f"without {_short(node)}", ast.Pass()


def _may_go(place: Place) -> bool:
    match place.node:
        case ast.Return():
            return not place.last
        case ast.Raise() | ast.Continue() | ast.Break() | ast.Delete() | ast.AugAssign() | ast.Expr(value=ast.Call()):
            return True
        case ast.Assign(targets=[ast.Name(), *_]) | ast.AnnAssign(target=ast.Name()):
            return place.nested
        case ast.Assign() | ast.AnnAssign(value=ast.expr()):
            return bool(place.function)
    return False


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=str(value)) if not _is_prose(node):
            yield ast.Constant("" if value else "X")
        case ast.Constant(value=bytes(value)):
            yield ast.Constant(b"" if value else b"X")
        case ast.Compare(ops=ops):
            for at, op in enumerate(ops):
                for other in OPPOSITE[type(op)]:
                    yield _copy(node, ops=[*ops[:at], other(), *ops[at + 1 :]])
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(OPPOSITE[type(op)][0](), values)
            for at in range(len(values)):
                rest = [*values[:at], *values[at + 1 :]]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.BinOp(op=op) if type(op) in OPPOSITE:
            yield _copy(node, op=OPPOSITE[type(op)][0]())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.IfExp(test=test) if not isinstance(test, SIMPLE) and not _is_not(test):
            yield _copy(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.Call(func=func, args=args, keywords=keywords):
            if isinstance(func, ast.Name) and func.id in OTHER_NAME:
                yield _copy(node, func=ast.Name(OTHER_NAME[func.id], ast.Load()))
            if isinstance(func, ast.Attribute) and func.attr in CHANGING:
                yield func.value
            for at in range(len(keywords)):
                yield _copy(node, keywords=[*keywords[:at], *keywords[at + 1 :]])
            if len(args) > 1 and not _is_prose(args[-1]):
                yield _copy(node, args=args[:-1])


def _is_prose(node: ast.AST) -> bool:
    """A sentence for people."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    text = "".join(str(each.value) if isinstance(each, ast.Constant) else "0" for each in parts)
    return isinstance(node, ast.JoinedStr | ast.Constant) and PROSE.search(text) is not None


def _is_not(node: ast.AST) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _copy(node: Any, **changed: Any) -> Any:
    return type(node)(**{**dict(ast.iter_fields(node)), **changed})


def _short(node: ast.AST) -> str:
    return ast.unparse(node).partition("\n")[0][:100]
