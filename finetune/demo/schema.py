"""The JSON schema of the demo task, as the app's Pydantic model writes it.

`floorplan.schema.json` equals `FloorPlanAnalysis.model_json_schema()` of `examples/floorplan`; a
test keeps the two equal, since this package does not import the examples.
"""

import json
from importlib import resources
from typing import Any


def floorplan_schema() -> dict[str, Any]:
    """The schema of `FloorPlanAnalysis`, its keys in the order in which they are written."""
    text = resources.files("finetune.demo").joinpath("floorplan.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
