"""JSON that a Pydantic model describes: its JSON Schema, then the model with its own validators."""

from typing import Any

from holdfast.contracts.base import MAX_VIOLATIONS, Constraint, Violation, needs_extra, refuse, shortened
from holdfast.contracts.forms.schema import JsonForm, compile_schema
from holdfast.pointers import pointer


class ModelForm:
    """JSON that a Pydantic model, or any other type that Pydantic knows, describes.

    The JSON is checked against the schema of the model first, so that what Pydantic would convert, such as "3" for a
    number, is not passed on unconverted to an application that reads the text.
    """

    __slots__ = ("_adapter", "_validation_error", "constraint", "json")

    def __init__(self, model: Any, *, name: str = "contract") -> None:
        """Raise ConfigError if Pydantic makes no JSON Schema of it."""
        try:
            from pydantic import PydanticUserError, TypeAdapter, ValidationError
        except ImportError:
            needs_extra("pydantic")
        try:
            adapter = model if isinstance(model, TypeAdapter) else TypeAdapter(model)
            schema = adapter.json_schema()
        except (PydanticUserError, TypeError, ValueError, RecursionError) as error:
            first = str(error).partition("\n")[0]
            refuse(f"Pydantic makes no JSON Schema of {_called(model)}: {shortened(first)}", "model", name)
        self._adapter: Any = adapter
        self._validation_error = ValidationError
        self.json: JsonForm = compile_schema(schema, name=name)
        """What its JSON Schema says."""
        self.constraint: Constraint | None = self.json.constraint

    def read(self, text: str) -> tuple[Any, Any, tuple[Violation, ...]]:
        _, data, violations = self.json.read(text)
        if violations:
            return None, None, violations
        try:
            return self._adapter.validate_json(text), data, ()
        except self._validation_error as error:
            told = error.errors(include_url=False, include_context=False, include_input=False)[:MAX_VIOLATIONS]
            return None, None, tuple(_violation(one) for one in told)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 (validators of the application, which must not end the process)
            message = f"a validator of {_called(self._adapter)} failed: {type(error).__name__}: {error}"
            return None, None, (Violation("", shortened(message), "model"),)


def _violation(error: Any) -> Violation:
    return Violation(pointer(error["loc"]), shortened(error["msg"]), "model")


def _called(model: Any) -> str:
    model = getattr(model, "_type", model)
    return str(getattr(model, "__name__", model))
