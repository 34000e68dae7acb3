"""Runs the function by which upstream chooses its picture, taken out of its source, without torch.

usage: upstream-size.py CHECKOUT, with a JSON list of [width, height, size] on standard input
Prints a JSON list of [width, height].
"""
import ast
import json
import math
import sys
from pathlib import Path

PIPELINES = [Path("liveavatar", "models", "wan", name) for name in ("causal_s2v_pipeline.py", "causal_s2v_pipeline_tpp.py")]
CONFIGS = Path("liveavatar", "models", "wan", "wan_2_2", "configs", "__init__.py")


def found(path, name):
    """The function or assignment of that name, wherever it is in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return node
    raise SystemExit(f"{path} has no {name} any more")


def run(node):
    names = {"math": math}
    exec(compile(ast.Module(body=[node], type_ignores=[]), "upstream", "exec"), names)
    return names


def main():
    checkout = Path(sys.argv[1])
    areas = run(found(checkout / CONFIGS, "MAX_AREA_CONFIGS"))["MAX_AREA_CONFIGS"]
    one, five = (run(found(checkout / path, "get_size_less_than_area"))["get_size_less_than_area"] for path in PIPELINES)
    made = []
    for width, height, size in json.load(sys.stdin):
        picture = one(None, height, width, target_area=areas[size])
        assert picture == five(None, height, width, target_area=areas[size])
        made.append(picture[::-1])
    json.dump(made, sys.stdout)


main()
