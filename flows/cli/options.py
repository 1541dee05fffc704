"""The options of the commands: shared ones, and those derived from the parameters of a flow."""

import json
from collections.abc import Callable
from dataclasses import MISSING
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_args, get_origin

import typer

from registry.names import checked_name
from tasks.validation import Definition, definitions

Name = Annotated[str | None, typer.Argument(metavar="PROJECT_NAME", show_default=False, help="The project.")]
NameOption = Annotated[
    str | None, typer.Option("--project-name", help="The project, as an option instead of an argument.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only report what would be done; change nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ModelId = Annotated[int, typer.Argument(help="The model's id, as `frontrunner models` lists it.")]

Given = dict[str, Any]


def takes(kind: type[Any], **defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator for a command, which receives a dict with the project and the parameters of `kind`.

    The project is required unless its definition has a default. `defaults` replace those of the definitions. The values
    are validated where they are used, so that the flow, the form and the command give the same errors.
    """
    known = {name: each._replace(default=defaults.get(name, each.default)) for name, each in definitions(kind).items()}
    required = "project_name" not in known or known["project_name"].default is MISSING

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(signature(command).parameters.values())[1:]
        names = [_option("name", Name, None), _option("project_name", NameOption, None)]
        others = [_option_of(each) for name, each in known.items() if name != "project_name"]

        def called(name: str | None = None, **typed: Any) -> None:
            rest = {each.name: typed.pop(each.name) for each in own}
            project_name = typed.pop("project_name")
            given: Given = {name: _parsed(known[name], value) for name, value in typed.items()}
            if required or name is not None or project_name is not None:
                given["project_name"] = project_of(name, project_name)
            command(given, **rest)

        called.__name__, called.__doc__ = command.__name__, command.__doc__
        parameters = [*names, *others, *own]
        called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {each.name: each.annotation for each in parameters}
        return called

    return decorate


def project_of(name: str | None, project_name: str | None) -> str:
    """Return the project, which is given either as the first argument or with --project-name."""
    given = [each for each in (name, project_name) if each is not None]
    if len(given) != 1:
        raise typer.BadParameter("give one project: as the first argument, or with --project-name")
    return checked_name(given[0])


def _option(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)


def _option_of(each: Definition) -> Parameter:
    kinds = _kinds(each)
    kind: Any = list[str] if list in kinds else next((kind for kind in (bool, float, int) if kind in kinds), str)
    metavar = "CHOICE" if each.choices else "JSON" if dict in kinds else None
    text = each.described.text + (f" One of {', '.join(each.choices)}." if each.choices else "")
    flags = [f"--{each.name.replace('_', '-')}"] if kind is bool and not each.default else []
    option = typer.Option(*flags, help=text, metavar=metavar, rich_help_panel=each.described.panel)
    return _option(each.name, Annotated[kind if each.default is not None else kind | None, option], each.default)


def _kinds(each: Definition) -> set[type]:
    """Return the plain types that a value may have: `str | list[str]` has two."""
    plain = get_args(each.annotation)[0]
    kinds = [plain] if isinstance(plain, type) or get_origin(plain) in (list, dict) else get_args(plain)
    return {get_origin(kind) or kind for kind in kinds if isinstance(get_origin(kind) or kind, type)}


def _parsed(each: Definition, value: Any) -> Any:
    kinds = _kinds(each)
    if value is None:
        return None
    if dict in kinds:
        return _json_object(f"--{each.name.replace('_', '-')}", value)
    if list in kinds:
        names = [part.strip() for text in value for part in text.split(",") if part.strip()]
        return names[0] if str in kinds and len(names) == 1 else names
    return int(value) if {int, float} <= kinds and value > 1 and value == int(value) else value


def _json_object(option: str, text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"{option} is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise typer.BadParameter(f"{option} is not a JSON object")
    return parsed
