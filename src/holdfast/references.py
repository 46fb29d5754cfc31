"""Python objects that a configuration names: "package.module:name"."""

import importlib
import json
import re
import sys
import traceback
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_DOTTED: Final = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_REFERENCE: Final = re.compile(f"({_DOTTED}):({_DOTTED})")


def misnamed(reference: str) -> str | None:
    """Return what is wrong with the name of an object, None if it may name one."""
    if _REFERENCE.fullmatch(reference):
        return None
    return f'expected "package.module:name", got {json.dumps(reference, ensure_ascii=False)}'


def find_reference(reference: str, base: Path) -> Any:
    """Import an object from what is installed or from the folder `base`. A module is imported once in a process.

    Raises:
        ValueError: it can't be imported.
    """
    if wrong := misnamed(reference):
        raise ValueError(wrong)
    module, _, name = reference.partition(":")
    known = module in sys.modules
    return _attribute(_import(module, base.resolve()), name, known)


def _import(name: str, base: Path) -> ModuleType:
    if str(base) not in sys.path:
        sys.path.append(str(base))  # last, so that nothing there takes the place of what the gateway itself imports
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f'there is no module "{error.name}", neither in {base} nor installed') from error
        raise ValueError(_told(name, error)) from error
    except (Exception, SystemExit) as error:
        raise ValueError(_told(name, error)) from error
    _refuse_hidden(name.partition(".")[0], base)
    return module


def _told(name: str, error: BaseException) -> str:
    """Say how an import failed, and where."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = "" if isinstance(error, SyntaxError) else f" ({Path(last.filename).name}, line {last.lineno})"
    return f"importing {name} failed: {type(error).__name__}: {' '.join(str(error).split())}{place}"


def _refuse_hidden(root: str, base: Path) -> None:
    """Raise ValueError where a module in the folder has the name of another one, which is imported in its place."""
    own = [path for path in (base / root / "__init__.py", base / f"{root}.py") if path.is_file()]
    file = getattr(sys.modules[root], "__file__", None)
    if own and (file is None or Path(file).resolve() != own[0].resolve()):
        raise ValueError(
            f"{own[0].relative_to(base)} has the name of another module, {file or 'a built-in'}: rename it"
        )


def _attribute(module: ModuleType, name: str, known: bool) -> Any:
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            near = get_close_matches(part, dir(found), n=1)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            late = "; it was imported before: a change of it needs a restart" if known else ""
            raise ValueError(f'{module.__name__} has no "{name}"{hint}{late}') from None
    return found
