"""Fuzz every target in turn, led by coverage: `make fuzz`, or this file with `--help`.

What the fuzzer has learnt stays in the directory `--corpus`, and the next run begins there.
A file that a target does not survive is left beside it: put it into `tests/fuzz/corpus`, in the
directory of its target, and every `make test` tries it.
"""

import argparse
import random
import shutil
import subprocess
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dsave"]):
    import targets

_FINDINGS = Path(__file__).parent / "corpus"
_RSS_LIMIT_MIB = 2048
_TIMEOUT_S = 10


def fuzz(name, options):
    """Fuzz one target in this process, which ends with it."""
    target = next(each for each in targets.TARGETS if each.__name__ == name)

    def changed(data, max_size, seed):
        rng = random.Random(seed)
        if rng.random() < 0.5:
            return atheris.Mutate(data, max_size)
        return targets.changed(target, data, rng)[:max_size]

    atheris.Setup([sys.argv[0], *options], target, custom_mutator=changed)
    atheris.Fuzz()


def main():
    """Fuzz each target in a process of its own; the exit code says whether all survived."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [target.__name__ for target in targets.TARGETS]
    parser.add_argument("targets", nargs="*", default=names, help=f"of {', '.join(names)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--corpus", type=Path, default=Path(".fuzz"))
    arguments = parser.parse_args()
    failed = []
    for name in arguments.targets:
        target = next(each for each in targets.TARGETS if each.__name__ == name)
        corpus = arguments.corpus / name
        corpus.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(targets.good_files(target)):
            (corpus / f"good-{number}").write_bytes(data)
        for finding in (_FINDINGS / name).glob("*"):
            shutil.copy(finding, corpus)
        options = [
            f"-max_total_time={arguments.seconds}",
            f"-rss_limit_mb={_RSS_LIMIT_MIB}",
            f"-timeout={_TIMEOUT_S}",
            "-max_len=100000",
            "-print_final_stats=1",
            f"-artifact_prefix={arguments.corpus}/{name}-",
            str(corpus),
        ]
        print(f"{name}: {arguments.seconds} s", flush=True)
        command = [sys.executable, __file__, "--one", name, *options]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print(f"did not survive: {', '.join(failed)}" if failed else "all survived")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
