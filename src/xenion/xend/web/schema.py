"""The API's types as msgspec knows them: what comes in is checked against them, and they become JSON Schema."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, NotRequired, Required, get_args, get_origin, get_type_hints

import msgspec

from xenion.api.types import Limit

REF = "#/components/schemas/{name}"
_WHERE = re.compile(r"(?P<what>.*) - at `\$\.(?P<where>.*)`", re.DOTALL)
_LONGEST = 300


class MismatchError(Exception):
    """What came is not what the type describes; the message is a sentence without its beginning."""


@cache
def checked(kind: Any) -> type[msgspec.Struct]:
    """A Struct of the TypedDict `kind`: no field but its own, `Limit` kept, what may be left out is UNSET then."""
    needed, optional = [], []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        field = _with_meta(hint)
        if name in kind.__required_keys__:
            needed.append((name, field))
        else:
            optional.append((name, field | msgspec.UnsetType, msgspec.UNSET))
    return msgspec.defstruct(kind.__name__, [*needed, *optional], forbid_unknown_fields=True)


def _with_meta(hint: Any) -> Any:
    """The type without NotRequired, and with Meta in place of Limit."""
    if get_origin(hint) in (NotRequired, Required):
        (hint,) = get_args(hint)
    if get_origin(hint) is not Annotated:
        return hint
    plain, *notes = get_args(hint)
    metas = [_meta(plain, note) for note in notes if isinstance(note, Limit)]
    return Annotated[(plain, *metas)] if metas else plain


def _meta(plain: Any, limit: Limit) -> msgspec.Meta:
    if plain is not str:
        return msgspec.Meta(ge=limit.ge, le=limit.le)
    pattern = (
        rf"^(?:{limit.pattern})\Z" if limit.pattern else None
    )  # msgspec searches, and $ lets a newline pass
    return msgspec.Meta(min_length=limit.ge or None, max_length=limit.le, pattern=pattern)


def convert(value: Any, kind: Any, *, text: bool = False) -> dict[str, Any]:
    """`value` as the TypedDict `kind`; `text`: numbers and truth values come as text. MismatchError."""
    try:
        found = msgspec.convert(_whole(value), checked(kind), strict=not text)
    except msgspec.ValidationError as error:
        raise MismatchError(_sentence(str(error))) from error
    fields = ((name, getattr(found, name)) for name in found.__struct_fields__)
    return {name: field for name, field in fields if field is not msgspec.UNSET}


def _whole(value: Any) -> Any:
    """Fields that are 13.0 as 13: JSON Schema knows no difference."""
    if not isinstance(value, dict):
        return value
    return {
        name: int(field) if isinstance(field, float) and field.is_integer() else field
        for name, field in value.items()
    }


def _sentence(said: str) -> str:
    where = ""
    if match := _WHERE.fullmatch(said):
        said, where = match["what"], f"`{match['where']}`: "
    return (where + said[:1].lower() + said[1:])[:_LONGEST]


def components(checked_kinds: list[Any], plain_kinds: list[Any]) -> dict[str, Any]:
    """JSON Schema 2020-12 of requests, which know no further fields, and of answers; by the types' names, sorted."""
    kinds = [checked(kind) for kind in checked_kinds] + plain_kinds
    _, found = msgspec.json.schema_components(kinds, ref_template=REF)
    return {name: _portable(found[name]) for name in sorted(found)}


def field_schemas(kind: Any) -> Mapping[str, Any]:
    """The schema of each field of a query."""
    (_,), found = msgspec.json.schema_components([checked(kind)], ref_template=REF)
    properties: Mapping[str, Any] = _portable(found[kind.__name__])["properties"]
    return properties


def _portable(schema: Any) -> Any:
    """Patterns as ECMA 262 has them, which knows no \\Z."""
    if isinstance(schema, list):
        return [_portable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: part.replace(r"\Z", "$") if key == "pattern" and isinstance(part, str) else _portable(part)
        for key, part in schema.items()
    }
