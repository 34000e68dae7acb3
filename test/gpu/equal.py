"""
Equality with upstream alone, for every way that frames are counted.

    python3 test/gpu/equal.py --checkout DIR --checkpoint DIR --results DIR
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import equivalence  # noqa: E402
import measure  # noqa: E402
import rig  # noqa: E402
import upstream  # noqa: E402

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    given = parser.parse_args()
    results = measure.Results(given.results)
    modules = upstream.import_checkout(given.checkout.resolve(), compiled=False)
    engine = rig.LiveAvatar(rig.options(given.checkout.resolve(), given.checkpoint.resolve()))
    engine._checkout = modules.checkout
    engine.load(lambda phase, _fraction: print(phase, flush=True))
    inputs = rig.make_inputs(given.results / "inputs", *measure.SIZES["384*256"], 12)
    for steps in (4, 3):
        results.part(f"equal-bf16-{steps}", lambda s=steps: equivalence.compare(modules, engine, inputs, 2, s))
    results.part("equal-online-decode", lambda: equivalence.online_frames(modules, engine, inputs))
