"""Runs the argument parser of upstream's script, taken out of its source, without torch or weights.

usage: upstream-parser.py CHECKOUT WORLD_SIZE ARGUMENT...
Prints what upstream makes of the arguments, as JSON. The gate that follows the parser, which admits one process or
five, is executed too. Ends with 2 where the parser refuses, and with 1 where an assertion does.
"""
import argparse
import ast
import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace

SCRIPT = Path("minimal_inference", "s2v_streaming_interact.py")
CONFIGS = Path("liveavatar", "models", "wan", "wan_2_2", "configs", "__init__.py")
UTILS = Path("liveavatar", "models", "wan", "wan_2_2", "utils", "utils.py")


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def named(tree, name):
    """The top-level function or assignment of that name."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return node
    raise SystemExit(f"upstream has no {name} any more")


def run(nodes, names):
    exec(compile(ast.Module(body=nodes, type_ignores=[]), "upstream", "exec"), names)


def gate(tree):
    """The statement of generate() that depends on the number of processes, without its imports."""
    generate = named(tree, "generate")
    for node in ast.walk(generate):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "world_size > 1" and node.orelse:
            keep = lambda body: [each for each in body if not isinstance(each, ast.ImportFrom)]
            node.body, node.orelse = keep(node.body), keep(node.orelse)
            return node
    raise SystemExit("upstream has no gate for the number of processes any more")


def main():
    checkout, world_size, *arguments = sys.argv[1:]
    checkout = Path(checkout)
    script, configs, utils = (parsed(checkout / path) for path in (SCRIPT, CONFIGS, UTILS))
    tasks = [ast.literal_eval(key) for key in named(configs, "WAN_CONFIGS").value.keys]
    config = SimpleNamespace(sample_steps=40, sample_shift=3, sample_guide_scale=4.5, frame_num=81)
    names = {
        "argparse": argparse,
        "random": random,
        "sys": sys,
        "WAN_CONFIGS": {task: config for task in tasks},
        "print": lambda *_: None,
    }
    run([named(configs, "SIZE_CONFIGS"), named(configs, "SUPPORTED_SIZES"), named(utils, "str2bool")], names)
    run([named(script, name) for name in ("EXAMPLE_PROMPT", "_validate_args", "_parse_args")], names)
    sys.argv = [str(checkout / SCRIPT), *arguments]
    args = names["_parse_args"]()
    names.update(args=args, world_size=int(world_size))
    run([gate(script)], names)
    json.dump(vars(args), sys.stdout)


main()
