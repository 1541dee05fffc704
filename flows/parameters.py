"""Flows whose signature and form in Prefect are derived from the definitions of their parameters."""

from collections.abc import Callable, Sequence
from dataclasses import MISSING
from functools import wraps
from inspect import Parameter, Signature
from typing import Annotated, Any, ParamSpec, TypeVar, cast, get_type_hints

from prefect import Flow, flow
from pydantic import Field, JsonValue
from pydantic_core import PydanticUndefined

from tasks.validation import Definition, check, definitions

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


def flow_of(
    kind: Callable[P, T], *, first: Sequence[str] = (), **options: Any
) -> Callable[[Callable[[T], R]], Flow[P, R]]:
    """Return a decorator for the body of a flow, which receives the validated parameters as an instance of `kind`.

    `first` are the parameters at the top of the form; the others follow in their order. `options` are those of
    `prefect.flow`.
    """
    parameters = cast("type[T]", kind)
    known = definitions(parameters)
    hints = get_type_hints(parameters)
    signature = Signature([_parameter(each, hints[each.name], each.default) for each in known.values()])
    order = [*first, *(name for name in known if name not in first)]

    def decorate(body: Callable[[T], R]) -> Flow[P, R]:
        @wraps(body)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            return body(check(parameters, signature.bind(*args, **kwargs).arguments))

        checked.__signature__ = signature  # type: ignore[attr-defined]
        # Prefect's own validation would change types silently, and its errors take several lines.
        result: Flow[P, R] = flow(validate_parameters=False, **options)(checked)
        result.__signature__ = Signature([_field(each, order.index(each.name)) for each in known.values()])  # type: ignore[attr-defined]
        return result

    return decorate


def _parameter(each: Definition, annotation: Any, default: Any) -> Parameter:
    given = Parameter.empty if default is MISSING else default
    return Parameter(each.name, Parameter.POSITIONAL_OR_KEYWORD, default=given, annotation=annotation)


def _field(each: Definition, position: int) -> Parameter:
    """Return the parameter as Prefect's form shows it.

    An optional parameter is a plain field or dropdown without a default. `X | None` would be shown as a pair of tabs,
    and the form would send a default of null, which is none of the choices.
    """
    annotation, default = each.annotation, each.default
    if default is MISSING:
        default = ...
    elif default is None:
        annotation, default = Annotated[annotation, Field(default_factory=lambda: None)], PydanticUndefined
    text = each.described.text
    extra: dict[str, JsonValue] = {"position": position}
    return _parameter(each, annotation, Field(default=default, description=text, json_schema_extra=extra))
