"""Options of commands, in one style: hyphens, lists with spaces between, --x and --no-x, each with what it is for."""

from __future__ import annotations

import inspect
import os
import types
from argparse import (
    Action,
    ArgumentParser,
    ArgumentTypeError,
    BooleanOptionalAction,
    Namespace,
    RawDescriptionHelpFormatter,
    _ArgumentGroup,
)
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from lorary.errors import UsageError

_METAVARS = {int: "N", float: "X", str: "NAME", Path: "FILE"}


class _Help(RawDescriptionHelpFormatter):
    """Keeps a description's lines, tells defaults that say something, and starts each help in one column."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)

    def _get_help_string(self, action: Action) -> str:
        told = action.help or ""
        silent = action.default is None or action.default is False or action.default in ([], (), "==SUPPRESS==")
        if silent or not action.option_strings:
            return told
        default = action.default
        shown = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)
        if isinstance(action, BooleanOptionalAction):
            shown = action.option_strings[0]
        return f"{told} (default: {shown.replace('%', '%%')})"


class Options(ArgumentParser):
    """The options of one command.

    Args:
        command: its name, after `lorary`.
        description: what it does and what it writes.
        usage: what must be given, such as `BANK --out COMPOSITE`.
        epilog: makes what stands below the options; called where a user asks for help, since it may import much.
    """

    def __init__(self, command: str, description: str, usage: str, epilog: Callable[[], str] | None = None) -> None:
        prog = f"lorary {command}"
        super().__init__(
            prog=prog,
            usage=" ".join(f"{prog} {usage} [options]".split()),
            description=_wrapped(description),
            allow_abbrev=False,
            add_help=False,
            formatter_class=_Help,
        )
        self.add_argument("-h", "--help", action="help", help="show this help")
        self._make_epilog = epilog
        self._positionals.title = "what it takes"

    def format_help(self) -> str:
        self.epilog = self._make_epilog() if self._make_epilog else None
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; `{self.prog} --help` shows what it takes")

    def add_question(self, purpose: str) -> None:
        """The argument QUESTION: a text that is not empty."""
        self.add_argument("question", metavar="QUESTION", type=_question, help=purpose)

    def add_json(self, what: str) -> None:
        """The option --json, of `what` is printed."""
        self.add_argument("--json", action="store_true", help=f"print {what} as JSON, and nothing else")

    def add_check_base(self) -> None:
        """The option --check-base."""
        self.add_argument("--check-base", action="store_true", help="also list what the base is sure of otherwise")

    def add_lightness(self) -> None:
        """The options --dtype and --quantization, of the base that a composite is loaded with."""
        self.add_argument("--dtype", metavar="NAME", help="of the base: float32, bfloat16, or, of a composite, float16")
        self.add_argument(
            "--quantization",
            dest="quantization_config",
            choices=("float16", "int8"),
            help="quantise the base's linears, on a CPU, when its weights were checked",
        )

    def add_quiet(self) -> None:
        """The option --quiet."""
        self.add_argument("--quiet", action="store_true", help="show no progress bar")

    def add_record(self, record: Callable[..., Any], title: str, *, skip: Iterable[str] = ()) -> None:
        """An option for each parameter of a dataclass or function, with the help that its docstring gives."""
        add_parameters(self.add_argument_group(title), record, skip=skip)


def add_parameters(
    parser: ArgumentParser | _ArgumentGroup, function: Callable[..., Any], *, skip: Iterable[str] = ()
) -> None:
    """Adds an option for each parameter of a dataclass or function; one without a default is positional.

    The type decides its form: `bool` is --x or --no-x, a tuple or list takes values with spaces between, a `Literal` is a
    choice. The docstring's `Args:` are the helps.
    """
    hints, helps = get_type_hints(function), _helps(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name in skip:
            continue
        kind, many = _kind(hints[name])
        settings: dict[str, Any] = {"help": helps.get(name, "").replace("%", "%%")}
        if parameter.default is inspect.Parameter.empty:
            parser.add_argument(name, type=kind, metavar=_shown(name), **settings)
            continue
        settings["default"] = parameter.default
        if kind is bool:
            settings["action"] = BooleanOptionalAction
        elif get_origin(kind) is Literal:
            settings["choices"] = get_args(kind)
        else:
            settings |= {"type": kind, "metavar": _METAVARS[kind]} | ({"nargs": "+"} if many else {})
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, **settings)


def positionals(function: Callable[..., Any]) -> str:
    """The arguments of a function that have no default, as a usage shows them."""
    parameters = inspect.signature(function).parameters.items()
    return " ".join(_shown(name) for name, p in parameters if p.default is inspect.Parameter.empty)


def _shown(name: str) -> str:
    return name.upper().replace("_", "-")


def made(record: Callable[..., Any], options: Namespace, *, skip: Iterable[str] = ()) -> Any:
    """The dataclass, or what the function returns, with the values that the options have."""
    names = [name for name in inspect.signature(record).parameters if name not in skip]
    values = {name: getattr(options, name) for name in names}
    return record(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def taken(options: Namespace, *names: str) -> dict[str, Any]:
    """The options of these names that were given or have a default, to pass on by name."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _kind(hint: Any) -> tuple[Any, bool]:
    """(the type of one value, whether there are many) of a parameter's type."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = [part for part in get_args(hint) if part is not type(None)][:1]
    if get_origin(hint) in (tuple, list):
        return get_args(hint)[0], True
    return hint, False


def _helps(function: Callable[..., Any]) -> dict[str, str]:
    """The `Args:` of a docstring, on one line each; a line for several parameters helps each of them."""
    from docstring_parser import DocstringStyle, parse

    parsed = parse(inspect.getdoc(function) or "", style=DocstringStyle.GOOGLE)
    helps: dict[str, str] = {}
    for argument in parsed.params:
        said = " ".join((argument.description or "").split()).removesuffix(".")
        helps |= dict.fromkeys(argument.arg_name.split(", "), said)
    return helps


def _question(argument: str) -> str:
    """The question that was typed; bytes that are no text in the terminal's encoding are replaced, as in a chat."""
    if not argument.strip():
        raise ArgumentTypeError("it is empty; ask something")
    return os.fsencode(argument).decode("utf-8", "replace")


def _wrapped(text: str) -> str:
    """A description that the formatter keeps line by line, at most 79 columns wide."""
    import textwrap

    return "\n".join(textwrap.fill(" ".join(part.split()), 79) for part in text.split("\n\n"))
