"""Strictly validate parameters that a class defines, and translate pydantic's errors into ours."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, ValidationError

from registry.errors import InvalidInput, UnknownValue

STRICT = ConfigDict(strict=True, defer_build=True)
UNDESCRIBED = {"bool_type": "true or false", "string_type": "a text"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Described:
    """The description of a parameter.

    `must` completes the sentence "NAME is …, not VALUE" in the error for a wrong value. `panel` is the heading in the
    command's help.
    """

    text: str
    must: str = ""
    error: type[InvalidInput] = InvalidInput
    panel: str | None = None


class Definition(NamedTuple):
    """A parameter as its class defines it.

    `annotation` is without None. `choices` is empty unless the values are a closed set. The default of a required
    parameter is `dataclasses.MISSING`.
    """

    name: str
    annotation: Any
    default: Any
    described: Described
    choices: tuple[str, ...]


def definitions(kind: type[Any]) -> dict[str, Definition]:
    """Return the parameters that a class defines by name, in the order of the contract."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _definition(field.name, hints[field.name], field.default) for field in fields(kind)}


def check(kind: type[T], given: Mapping[str, Any], of: str = "", unknown: str = "parameter") -> T:
    """Return the given values as an instance of the class. An empty text or list means a default of None.

    Raises:
        InvalidInput: a value has the wrong type or is out of range. Nothing is coerced.
        UnknownValue: a value is not among the choices, or a parameter does not exist.
    """
    known = definitions(kind)
    for name in given:
        if name not in known:
            raise UnknownValue(unknown, name, known)
    try:
        return kind(**{name: value for name, value in given.items() if not _is_empty(known[name], value)})
    except ValidationError as error:
        raise _translated(error, known, given, of) from None


def _definition(name: str, annotation: Any, default: Any) -> Definition:
    hint, *metadata = get_args(annotation)
    alternatives = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [kind for kind in alternatives if kind is not NoneType]
    choices = next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())
    described = next(each for each in metadata if isinstance(each, Described))
    return Definition(name, Annotated[reduce(or_, kinds), *metadata], default, described, choices)


def _is_empty(parameter: Definition, value: Any) -> bool:
    return parameter.default is None and (value is None or (isinstance(value, str | list | tuple) and not value))


def _translated(
    error: ValidationError, known: Mapping[str, Definition], given: Mapping[str, Any], of: str
) -> InvalidInput:
    """Translate pydantic's first error into one line of ours."""
    first = error.errors(include_url=False, include_context=False)[0]
    parameter = known[str(first["loc"][0])]
    described, value = parameter.described, given.get(parameter.name)
    if parameter.choices and not described.must:
        return UnknownValue(f"{parameter.name}{of}", value, parameter.choices)
    must = described.must or UNDESCRIBED.get(first["type"], first["msg"])
    return described.error(f"{parameter.name}{of} is {must}, not {value!r}")
