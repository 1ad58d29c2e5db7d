"""The command line: the commands in the order of `--help`, and the messages of those that fail."""

import atexit
import codecs
import gc
import io
import os
import sys
import warnings
from typing import Annotated, Any

from typer import Context, Exit, Option, Typer
from typer.core import TyperCommand, TyperGroup

from indexes.catalogue.database.consent import agree_always
from indexes.errors import MissingPackageError, UserError
from retrieval import __version__
from retrieval.commands.audit import audit, faithfulness, sanity
from retrieval.commands.demo import demo
from retrieval.commands.duplicates import duplicates
from retrieval.commands.evaluate import evaluate
from retrieval.commands.models import fit, models
from retrieval.commands.query import explain, query
from retrieval.commands.serve import serve
from retrieval.commands.shared.arguments import spell
from retrieval.commands.shared.configuration import read_defaults
from retrieval.commands.shared.console import print_message, stderr
from retrieval.commands.shared.logs import show_logs, show_warnings
from retrieval.commands.store import calibrate, index, remove, status, tune
from retrieval.commands.train import crop, reproduce, train
from retrieval.common.text import ascii_fallback

warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; a picture that fails is reported by name

_AFTER_INTERRUPT = {  # what an interrupted command leaves
    "index": "; what was committed is kept, and the same command goes on from there",
    "train": "; whole epochs are kept, and the same command with --resume goes on from there",
    "reproduce": "; what is finished is kept, and the same command goes on from there",
}
_TRAINING_PACKAGES = {"matplotlib", "onnx", "pytorch_metric_learning", "timm", "torch", "torchvision"}
_SET_ONCE = {
    *("store", "model", "device", "method", "size", "preview", "top", "confidence", "index", "engine"),
    *("host", "port", "token", "processes", "uploads", "max_upload", "queue"),
}
_PATHS = {"a", "against", "b", "folder", "galleries", "model", "pictures", "paths"}  # given as text: some are no paths


class _Command(TyperCommand):
    """A command, whose options have their defaults from the configuration files."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if ctx.parent and not ctx.resilient_parsing and "--help" not in args:  # help is there to mend a broken file
            given = self.make_parser(ctx).parse_args(args=list(args))[0]
            if given.get("trust"):
                _agree(ctx, True)
            store = spell(given.get("store") or os.environ.get("RETRIEVE_STORE"), True)
            ctx.default_map = read_defaults(ctx.parent.command.commands, ctx.info_name, ctx, store)
        rest = super().parse_args(ctx, args)
        ctx.params = {name: spell(value, name in _PATHS) for name, value in ctx.params.items()}
        return rest


class _CommandGroup(TyperGroup):
    """The group of commands, which turns the project's errors into one sentence and an exit code.

    Its options -v, -q and --trust can also follow the command. Options that one sets once have an environment variable.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for command in self.commands.values():
            command.params += [each for each in self.params if each.name in ("verbose", "quiet", "trust")]
            for option in command.params:
                if option.name in _SET_ONCE:
                    option.envvar = f"RETRIEVE_{option.name.upper()}"

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            print_message(str(error))
            raise Exit(1) from error
        except ModuleNotFoundError as error:
            if error.name not in _TRAINING_PACKAGES:
                raise
            print_message(str(MissingPackageError(f"`retrieve {ctx.invoked_subcommand}` needs {error.name}", "train")))
            raise Exit(1) from error
        except BrokenPipeError:  # the reader of the output has closed it
            raise
        except OSError as error:
            _discard_stdout()
            print_message(_describe_os_error(error))
            raise Exit(1) from error
        except KeyboardInterrupt as error:
            print_message(f"interrupted{_AFTER_INTERRUPT.get(ctx.invoked_subcommand, '')}")
            raise Exit(130) from error


app = Typer(
    cls=_CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find the pictures in your folders that look like this one, and see why.",
)
for _command in (
    *(index, query, explain, duplicates, serve),
    *(evaluate, sanity, audit, status, tune, calibrate, remove),
    *(models, fit, crop, train, reproduce, faithfulness, demo),
):
    app.command(cls=_Command)(_command)


def _print_version(chosen: bool) -> None:
    if chosen:
        print(f"retrieve {__version__}")
        raise Exit


def _show_logs(context: Context, level: int) -> None:
    if level:
        context.call_on_close(show_logs(level))


def _agree(context: Context, chosen: bool) -> None:
    if chosen:
        agree_always(True)
        context.call_on_close(lambda: agree_always(False))


def _silence(context: Context, chosen: bool) -> None:
    if chosen:
        stderr.quiet = True
        context.call_on_close(lambda: setattr(stderr, "quiet", False))


@app.callback()
def _options(
    version: Annotated[
        bool, Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
    verbose: Annotated[
        int,
        Option(
            "--verbose",
            "-v",
            help="Log each step; -vv logs more.",
            count=True,
            show_default=False,
            callback=_show_logs,
            expose_value=False,
        ),
    ] = 0,
    quiet: Annotated[
        bool,
        Option("--quiet", "-q", help="Show no progress and no notes.", callback=_silence, expose_value=False),
    ] = False,
    trust: Annotated[
        bool,
        Option(
            "--trust",
            help="Agree, for good, that the store may use the servers that it names.",
            callback=_agree,
            expose_value=False,
        ),
    ] = False,
) -> None:
    """Declare the options of all commands."""


def main() -> None:
    """Run `retrieve`."""
    # Imports make objects that stay: looking for garbage among them takes a fifth of a query's time, most at its end.
    show_warnings()
    gc.set_threshold(200_000)
    atexit.register(gc.freeze)
    codecs.register_error("in_plain_letters", ascii_fallback)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if it was closed
            stream.reconfigure(errors="in_plain_letters")
    app()


def _describe_os_error(error: OSError) -> str:
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}"
    if isinstance(error, FileNotFoundError):  # only the working folder is looked up without a name
        return "the working folder is gone: change to one that exists, or give whole paths and --store"
    return f"the answer cannot be written: {error.strerror or error}"


def _discard_stdout() -> None:
    """Drop buffered output that could not be written: Python would try again at exit, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
