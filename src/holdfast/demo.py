"""The configuration of the demo: simulated models, and those of every provider whose key is in the environment."""

import os
from collections.abc import Mapping
from typing import Final

DEMO: Final = """\
# The demo of Holdfast. Save it as holdfast.toml to make it yours.

[models.sim-primary]                 # fails now and then, so that you see the fallback at work
provider   = "simulated"
price      = { input = 0.25, output = 2.0 }
max_output = 4096                    # the longest answer: what a budget has to set aside for it

[models.sim-backup]
provider   = "simulated"
price      = { input = 0.1, output = 0.4 }
max_output = 4096

[features.answer]
models      = ["sim-primary", "sim-backup"]
deadline    = "10s"
last_resort = { message = "I can't answer that right now. Your question is saved." }
"""

PROVIDERS: Final = {
    "OPENAI_API_KEY": ("openai", ("gpt-5", "gpt-5-mini")),
    "ANTHROPIC_API_KEY": ("anthropic", ("claude-sonnet-4-5", "claude-haiku-4-5")),
    "GEMINI_API_KEY": ("google", ("gemini-2.5-pro", "gemini-2.5-flash")),
}


def demo_files(environment: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """Return the files of the demo's configuration."""
    tables = [DEMO]
    for variable, (provider, names) in PROVIDERS.items():
        if environment.get(variable, "").strip():
            tables += [_table(name, provider, variable) for name in names]
    return {"holdfast.toml": "\n".join(tables)}


def _table(name: str, provider: str, variable: str) -> str:
    return f'[models."{name}"]\nprovider = "{provider}"\napi_key = {{ env = "{variable}" }}\n'
