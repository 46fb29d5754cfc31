"""Writes the OpenAPI document of the demo, as /openapi.json serves it: python docs/generate_openapi.py"""

import json
from pathlib import Path

from holdfast.config import parse
from holdfast.demo import demo_files
from holdfast.gateway.serving.pages.openapi import document

PATH = Path(__file__).parent / "reference" / "openapi.json"


def openapi() -> str:
    """Return the document of a demo without any provider's key."""
    config = parse(demo_files({})).config
    return json.dumps(document([*config.features, *config.models]), indent=2, ensure_ascii=False) + "\n"


FILES = {PATH: openapi}

if __name__ == "__main__":
    for path, content in FILES.items():
        path.write_text(content(), encoding="utf-8")
