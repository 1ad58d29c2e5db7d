"""The entry point: the commands in their order, and what is said when one fails."""

from __future__ import annotations

import codecs
import io
import os
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from indexes.errors import UserError
from retrieval.commands import audit, demo, duplicates, evaluate, models, query, serve, store, train
from retrieval.commands.shared.console import print_message
from retrieval.common.text import ascii_fallback

warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; a picture that fails is told with its name

_AFTER_INTERRUPT = {  # by command, what an interruption leaves
    "index": "; what was committed is kept, and the same command goes on from there",
    "train": "; whole epochs are kept, and the same command with --resume goes on from there",
    "reproduce": "; what is finished is kept, and the same command goes on from there",
}


class _CommandGroup(TyperGroup):
    """Turns the project's errors into one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            print_message(str(error))
            raise typer.Exit(1) from error
        except BrokenPipeError:  # whoever read the output has enough of it
            raise
        except OSError as error:
            _discard_stdout()
            print_message(_describe_os_error(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            print_message(f"interrupted{_AFTER_INTERRUPT.get(ctx.invoked_subcommand, '')}")
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=_CommandGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find the pictures in your folders that look like this one, and see why.",
)

app.command()(store.index)
app.command()(query.query)
app.command()(query.explain)
app.command()(duplicates.duplicates)
app.command()(serve.serve)
app.command()(evaluate.evaluate)
app.command()(audit.sanity)
app.command()(audit.audit)
app.command()(store.status)
app.command()(store.tune)
app.command()(store.calibrate)
app.command()(store.remove)
app.command()(models.models)
app.command()(models.fit)
app.command()(train.crop)
app.command()(train.train)
app.command()(train.reproduce)
app.command()(audit.faithfulness)
app.command()(demo.demo)


def main() -> None:
    """The entry point `retrieve`."""
    codecs.register_error("in_plain_letters", ascii_fallback)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it was closed
            stream.reconfigure(errors="in_plain_letters")
    app()


def _describe_os_error(error: OSError) -> str:
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}"
    if isinstance(error, FileNotFoundError):  # only the working folder is looked for without a name
        return "the working folder is gone: change to one that exists, or give whole paths and --store"
    return f"the answer cannot be written: {error.strerror or error}"


def _discard_stdout() -> None:
    """What an output has not taken, Python would offer it once more at the end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
