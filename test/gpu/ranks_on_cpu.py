"""
The pipeline of five ranks without a GPU: five processes, upstream's own code with a one-layer model, gloo.

    python3 test/gpu/ranks_on_cpu.py --checkout DIR --checkpoint DIR   # of `checkpoint.py --tiny`
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import upstream  # noqa: E402

upstream.run_on_cpu()
import rig  # noqa: E402
from live_avatar import pipeline  # noqa: E402
from live_avatar.options import Options  # noqa: E402
from live_avatar.ranks import Follower  # noqa: E402


def main() -> None:
    """One rank, or rank 0 and what is asked of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    given = parser.parse_args()
    checkpoint = given.checkpoint.resolve()
    lora = checkpoint / "lora" / "liveavatar.safetensors"
    options = Options(given.checkout.resolve(), checkpoint, lora, False, False, True, "")
    modules = upstream.import_checkout(options.checkout, compiled=False, tpp=True)
    upstream.shrink(modules)
    modules.torch.set_num_threads(1)
    place = Follower.of(dict(os.environ))
    if place is not None:
        place.die_with_parent()
        follower = pipeline.ReportingFollower(options, place)
        follower._checkout = modules.checkout
        follower.follow()
        return
    leader = pipeline.PipelineLeader(options, [sys.executable, *sys.argv])
    leader._checkout = modules.checkout
    inputs = rig.make_inputs(Path(tempfile.mkdtemp(prefix="ranks-")), 64, 64, 3)
    began = time.monotonic()
    with rig.Rig(leader, keep="hash") as runner:
        whole = runner.render(rig.request(inputs, "whole", 0, 3))
        first = runner.render(rig.request(inputs, "first", 0, 2))
        second = runner.render(rig.request(inputs, "second", 2, 3, continues="first"))
        runner.send({"type": "unload"})
        runner.wait("unloaded")
    frames = sum(each.message["count"] for each in whole if each.message["type"] == "frames")
    continued = next(each.message["continued"] for each in second if each.message["type"] == "spanStarted")
    hashes = [[each.sha256 for each in part if each.sha256] for part in (whole, [*first, *second])]
    clips = [each.message for each in whole if each.message["type"] == "clip"]
    result = {
        "frames": frames,
        "continued": continued,
        "equal": hashes[0] == hashes[1],
        "hostBytes": [each["hostBytes"] for each in clips],
        "seconds": time.monotonic() - began,
    }
    print(json.dumps(result), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
