"""The coverage-guided fuzzer: `python -m tests.fuzz.fuzz TARGET CORPUS... [-max_total_time=600]`, with the options of libFuzzer.

It needs the package atheris, which has wheels for Linux on x86-64 only; that is why it is in no extra, and why the test suite replays what it
found without it. A break is kept once for each place and message under FUZZ_FOUND (./found), and the run goes on; what kills the process is kept by libFuzzer.
"""

import hashlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path

import atheris

from tests.fuzz.grammar import Choices, make_feed

with atheris.instrument_imports(
    include=[
        "grocery.feeds.check",
        "grocery.feeds.clean",
        "grocery.feeds.names",
        "grocery.feeds.parse",
        "grocery.feeds.read",
        "grocery.feeds.table",
        "grocery.units",
        "grocery.text",
    ],
    enable_loader_override=False,
):
    from tests.fuzz import invariants as holds

FOUND = Path(os.environ.get("FUZZ_FOUND", "found"))
GROWTH_MB = 250


def fuzz_raw(data: bytes) -> None:
    "Any bytes under a name."
    choose = Choices(data[-1:])
    from tests.fuzz.grammar import NAMES

    holds.check_reading(data[:-1], choose.pick(NAMES))


def fuzz_feed(data: bytes) -> None:
    "Feeds from the grammar."
    holds.check_reading(*make_feed(data))


def fuzz_diff(data: bytes) -> None:
    "Feeds from the grammar, read in four ways."
    choose = Choices(data[:6])
    sizes, head, group = (
        [1 + choose.byte(), 1 + choose.byte() * 7, 1 + choose.byte() % 9],
        choose.pick([1 << 16, 300, 50, 2000]),
        choose.pick([1 << 19, 200, 1000]),
    )
    feed, name = make_feed(data[6:])
    holds.check_alike(holds.lengthen(feed), name, sizes, head, group)


def fuzz_rawdiff(data: bytes) -> None:
    "Any bytes, read in four ways."
    choose = Choices(data[-6:])
    sizes, head, group = (
        [1 + choose.byte(), 1 + choose.byte() * 7, 1 + choose.byte() % 9],
        choose.pick([1 << 16, 300, 50, 2000]),
        choose.pick([1 << 19, 200, 1000]),
    )
    holds.check_alike(data[:-6], "PriceFull7290000000001-001-202603010341.gz", sizes, head, group)


def fuzz_names(data: bytes) -> None:
    "File names and store numbers."
    holds.check_name(data.decode("utf-8", "surrogateescape" if data[:1] == b"\xff" else "replace"))


def fuzz_text(data: bytes) -> None:
    "Bytes to text, cut anywhere."
    choose = Choices(data[-3:])
    holds.check_decoding(data[:-3], [1 + choose.byte(), 1 + choose.byte() % 9, 1 + choose.byte()])


TARGETS = {name.removeprefix("fuzz_"): value for name, value in list(globals().items()) if name.startswith("fuzz_")}


def _key(error: BaseException) -> str:
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "/grocery/" in f.filename or "/fuzz/" in f.filename
    ]
    place = f"{Path(frames[-1].filename).stem}.{frames[-1].name}:{frames[-1].lineno}" if frames else "?"
    words = str(error).split(": ")[:3] if isinstance(error, AssertionError) else [type(error).__name__]
    return f"{place} {': '.join(w for w in words if len(w) < 40)}"


class Runner:
    "Runs a target, keeps breaks, and watches the memory."

    def __init__(self, name: str):
        self.name, self.target, self.runs, self.keys, self.start, self.began = (
            name,
            TARGETS[name],
            0,
            {},
            0,
            time.time(),
        )
        FOUND.mkdir(parents=True, exist_ok=True)

    def __call__(self, data: bytes) -> None:
        self.runs += 1
        try:
            self.target(data)
        except Exception as error:
            key = _key(error)
            self.keys[key] = self.keys.get(key, 0) + 1
            mark = hashlib.sha1(key.encode()).hexdigest()[:10]
            path = FOUND / f"{self.name}-{mark}"
            if not path.exists() or len(data) < path.stat().st_size:
                path.write_bytes(data)
                path.with_suffix(".txt").write_text(f"{key}\n{''.join(traceback.format_exception(error))[-6000:]}")
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        self.start = rss if self.runs == 300 else self.start
        if self.runs > 300 and rss - self.start > GROWTH_MB:
            (FOUND / f"{self.name}-memory-{self.runs}").write_bytes(data)
            print(f"memory: {self.start} -> {rss} MB in {self.runs} runs", file=sys.stderr)
            self.start = rss

        if self.runs % 200 == 0:
            self.report()

    def report(self) -> None:
        "Write the figures of this run; libFuzzer ends the process without a farewell."
        used = resource.getrusage(resource.RUSAGE_SELF)
        line = {
            "target": self.name,
            "runs": self.runs,
            "cpu_s": round(used.ru_utime + used.ru_stime, 1),
            "rss_mb": used.ru_maxrss // 1024,
            "breaks": self.keys,
        }
        (FOUND / f"run-{self.name}-{os.getpid()}-{int(self.began)}.json").write_text(json.dumps(line))


def main() -> None:
    runner = Runner(sys.argv.pop(1))
    atheris.Setup(sys.argv, runner)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
