"""Values that stand in the environment: `env:NAME` as a whole text, `{env:NAME}` inside one.

Files keep the name and never the value; it is looked up where a request or a command is built, by these rules and no
others. Whoever shows such a text masks what was put in.
"""

import re
from collections.abc import Mapping
from typing import Final

from sseproof.rundir.errors import UsageError

ENV_PART: Final = re.compile(r"\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
_ENV_WHOLE: Final = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")


def env_names(text: str) -> list[str]:
    """The variables that a text refers to."""
    whole = _ENV_WHOLE.fullmatch(text.strip())
    return [whole[1]] if whole else ENV_PART.findall(text)


def resolve_env(text: str, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """The text with `env:NAME` (whole) or every `{env:NAME}` replaced, and the values that were put in.

    Raises UsageError, naming the variable, when it is not set.
    """
    found: list[str] = []

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in environ:
            raise UsageError(
                f"The environment variable {name} is not set, and is needed here: export {name}=…"
            )
        found.append(environ[name])
        return environ[name]

    whole = _ENV_WHOLE.fullmatch(text.strip())
    return (value(whole) if whole else ENV_PART.sub(value, text)), found
