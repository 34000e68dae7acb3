"""
Everything that is measured with one loaded model, in one process, the most telling first.

    python3 test/gpu/measure.py --checkout DIR --checkpoint DIR --results DIR
        [--sizes 720*400,384*256] [--dtype bf16] [--no-compile] [--speed-only]

Each result is written the moment it is there; a part that fails says why and the next one goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import audio_windows  # noqa: E402
import equivalence  # noqa: E402
import rig  # noqa: E402
import speed  # noqa: E402
import upstream  # noqa: E402

#: Name of upstream's size, and the picture that a reference in landscape gets with it.
SIZES = {"704*384": (704, 384), "688*368": (640, 384), "384*256": (384, 256), "720*400": (640, 448)}


class Results:
    """A directory of JSON files."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._began = time.monotonic()

    def part(self, name: str, measure: Callable[[], Any]) -> None:
        """Measures a part and writes what came of it."""
        began = time.monotonic()
        try:
            result = measure()
        except BaseException as error:
            traceback.print_exc()
            result = {"failed": f"{type(error).__name__}: {error}"[:2000]}
        seconds = time.monotonic() - began
        entry = {"part": name, "result": result, "seconds": seconds, "at": time.monotonic() - self._began}
        (self._directory / f"{name}.json").write_text(json.dumps(entry, indent=2))
        print(f"== {name}: {json.dumps(result)} in {seconds:.0f} s", flush=True)


def environment(torch: Any, engine: Any) -> dict[str, Any]:
    """What was measured on."""
    return {
        **engine.versions(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "gpuMemoryBytes": torch.cuda.get_device_properties(0).total_memory,
        "cudnn": torch.backends.cudnn.version(),
    }


def main() -> None:
    """Runs the parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--dtype", choices=("fp8", "bf16"), default="fp8")
    parser.add_argument("--sizes", type=lambda names: names.split(","), default=list(SIZES))
    parser.add_argument("--speed-only", action="store_true", help="nothing is compared, and no long span rendered")
    parser.add_argument("--long-clips", type=int, default=60)
    given = parser.parse_args()
    checkout, checkpoint = given.checkout.resolve(), given.checkpoint.resolve()
    compiled = not given.no_compile
    results = Results(given.results)
    modules = upstream.import_checkout(checkout, compiled)
    torch = modules.torch
    engine = rig.LiveAvatar(rig.options(checkout, checkpoint, fp8=False, compiled=compiled))
    engine._checkout = modules.checkout
    results.part("environment", lambda: environment(torch, engine))

    def load() -> dict[str, Any]:
        began = time.monotonic()
        phases: list[Any] = []
        memory = engine.load(lambda phase, _: phases.append([phase, round(time.monotonic() - began, 1)]))
        return {"phases": phases, "memoryBytes": memory, "seconds": time.monotonic() - began}

    results.part("load", load)
    # Short enough for audio features in one piece, which are upstream's own.
    inputs = {name: rig.make_inputs(given.results / "inputs", *size, 12) for name, size in SIZES.items()}
    proofs = not given.speed_only
    if proofs:
        torch.compiler.set_stance("force_eager")
        results.part("equal-bf16", lambda: equivalence.compare(modules, engine, inputs["384*256"], 2, 4))
        torch.compiler.set_stance("default")

    def to_fp8() -> dict[str, Any]:
        from live_avatar.loading import NOT_FP8

        modules.checkout.fp8.replace_linear_with_scaled_fp8(engine._wan.noise_model, ignore_keys=NOT_FP8)
        torch.cuda.empty_cache()
        engine._resting_bytes = torch.cuda.memory_allocated()
        return {"allocatedBytes": engine._resting_bytes}

    if given.dtype == "fp8":
        results.part("fp8", to_fp8)
    for name in given.sizes:
        size_inputs = inputs[name]
        tag = name.replace("*", "x")
        headline = proofs and name == "704*384"
        results.part(f"runner-{tag}-4", lambda i=size_inputs: speed.time_runner(engine, i, 5, 4))
        results.part(f"runner-{tag}-3", lambda i=size_inputs: speed.time_runner(engine, i, 4, 3))
        for steps in (4, 3):
            results.part(
                f"upstream-{tag}-{steps}",
                lambda i=size_inputs, s=steps, h=headline: speed.time_upstream(
                    modules, engine, i, 3, s, whole=h and s == 4, decode=s == 4
                ),
            )
        if compiled:
            results.part(f"compiled-{tag}", lambda: compilations(torch))
    if proofs:
        directory = given.results / "inputs"
        results.part("cut-differently", lambda: equivalence.cut_differently(engine, inputs["384*256"]))
        results.part("windows", lambda: audio_windows.agreement(engine, directory))
        results.part("long", lambda: long_span(engine, directory, given.long_clips))
    results.part("unload", lambda: {"reservedBytes": engine.unload()})


def compilations(torch: Any) -> dict[str, Any]:
    """What was compiled so far, and why it was compiled again or not at all."""
    counters = torch._dynamo.utils.counters
    return {name: dict(counters[name]) for name in ("stats", "frames", "recompiles", "unimplemented", "graph_break")}


def long_span(engine: Any, directory: Path, clips: int) -> dict[str, Any]:
    """Memory over a span of many clips, at some of them."""
    inputs = rig.make_inputs(directory, *SIZES["384*256"], clips + 1)
    with rig.Rig(engine) as runner:
        arrived = runner.render(rig.request(inputs, "long", 0, clips, sampleSteps=3))
    done = [each.message for each in arrived if each.message["type"] == "clip"]
    at = {str(n): done[n - 1] for n in (1, 5, 20, 40, 60) if n <= len(done)}
    return {
        "peakMemoryBytes": {n: message["peakMemoryBytes"] for n, message in at.items()},
        "hostBytes": {n: message["hostBytes"] for n, message in at.items()},
        "frames": sum(each.message["count"] for each in arrived if each.message["type"] == "frames"),
    }


if __name__ == "__main__":
    main()
