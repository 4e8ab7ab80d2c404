"""The command line: `dsave demo`, `dsave show`, `dsave verify`, `dsave cluster`.

An error is one line on stderr. Exit codes: 0; 1, what was asked for cannot be done;
2, the command or a cluster config is wrong. Only `demo` imports Ray.
"""

import json
import shutil
import sys

import click

from dsave import __version__
from dsave.errors import ConfigError, DsaveError

_PIPE_WIDTH = 1000
"""Columns where no terminal is: tables in files and pipes are not folded."""


class _Commands(click.Group):
    """The commands; an error of theirs becomes one line and an exit code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # who reads has enough; click ends quietly
        except (DsaveError, OSError) as error:
            # What an error quotes may have several lines, such as YAML's complaints.
            click.echo(f"dsave: {' '.join(str(error).split())}", err=True)
            ctx.exit(2 if isinstance(error, ConfigError) else 1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Save training jobs as TensorFlow SavedModels, and look at what was saved."""


@main.command()
@click.argument("directory")
@click.option("--json", "as_document", is_flag=True, help="Print one JSON document.")
def show(directory: str, as_document: bool) -> None:
    """Show the variables, files and signatures of a SavedModel.

    DIRECTORY is a path or an fsspec URL, written by dsave or by TensorFlow; the prefix of a
    checkpoint will do as well. Only metadata is read.
    """
    from dsave.show import as_json, as_text, read_contents

    contents = read_contents(directory)
    if as_document:
        click.echo(json.dumps(as_json(contents), indent=2))
    else:
        click.echo(as_text(contents, _width()))


@main.command()
@click.argument("directory")
@click.option("--json", "as_document", is_flag=True, help="Print one JSON document.")
def verify(directory: str, as_document: bool) -> None:
    """Check every byte of a SavedModel, and how its files fit.

    DIRECTORY is a path or an fsspec URL; the prefix of a checkpoint will do as well. Each
    finding is one line, and with any the exit code is 1.
    """
    from dsave.runtime.progress import bars
    from dsave.verify import as_json, as_text
    from dsave.verify import verify as verify_files

    with bars(show=True) as progress:
        task = progress.add_task("reading", total=None)
        report = verify_files(
            directory, lambda done, total: progress.update(task, completed=done, total=total)
        )
    click.echo(json.dumps(as_json(report), indent=2) if as_document else as_text(report))
    if report.findings:
        raise SystemExit(1)


@main.command()
@click.argument("config")
def cluster(config: str) -> None:
    """Check a cluster config, and print its hosts and devices.

    CONFIG is a YAML file, such as those in cluster_configs. Nothing is started.
    """
    from dsave.runtime.config import load_spec
    from dsave.runtime.terminal import count_text, plain_table, table_text

    spec = load_spec(config)
    hosts = count_text(len(spec.host_names), "host")
    lines = [f"{config}: {hosts}, {count_text(len(spec.devices), 'device')}"]
    if spec.ray.address is None:
        lines.append("ray: a small one that starts and ends with the cluster")
    else:
        lines.append(f"ray: the one at {spec.ray.address}")
    if spec.placement == "pack":
        lines.append("placement: pack, all hosts on one Ray node")
    else:
        lines.append("placement: spread, each host on a Ray node of its own")
    root = spec.local_root or "a new temporary directory"
    lines += [
        f"local path: {path}, of which each host has its own copy, in {root}"
        for path in spec.local_paths
    ]
    table = plain_table("host", "devices", whole="host")
    for host in spec.host_names:
        devices = [d.removeprefix(f"{host}/device:") for d in spec.devices_of(host)]
        table.add_row(host, ", ".join(devices))
    click.echo("\n".join([*lines, "", table_text(table, _width())]))


@main.command()
def demo() -> None:
    """Train on four simulated GPUs, save in every way, compare.

    A digit classifier is left in a temporary directory, for you to serve.
    """
    from dsave.demo import run

    run()


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH
