"""`medseg export`: a trained network in a form that other programs run."""

import argparse
from pathlib import Path

from medseg.cli.command import add_output, add_overwrite, command, make_parser
from medseg.errors import ResourceError
from medseg.formatting import one_line

_FORMS = ("onnx", "torch", "bundle")
_EXAMPLES = """\
examples:
  medseg export runs/a -o exported --format onnx      # model.onnx, and segment.py to run it
  medseg export runs/a -o exported --format torch     # model.pt2, for torch.export.load
  medseg export runs/a -o exported --format bundle    # a MONAI bundle

exit codes: 0 done, 2 an operator has no such form, 3 a file that cannot be used, 4 machine
"""


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "export",
        "Write a trained network in a form that other programs run, with what is to be known of it "
        "(preprocessing, classes, window). The form is run on noise and compared with the network; "
        "nothing is written where they disagree.",
        _EXAMPLES,
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run's folder, a .safetensors or a .ckpt file"
    )
    parser.add_argument("--format", choices=_FORMS, default="onnx", help="default: onnx")
    add_output(parser, required=True)
    add_overwrite(parser)
    return parser


@command(_parser, stopped="stopped; nothing was written")
def main(arguments: argparse.Namespace) -> None:
    """Exports a trained network and says how far the result lies from it."""
    from medseg.files import replacing
    from medseg.models.weights import load_model

    files, write = _form(arguments.format)
    model = load_model(arguments.run)
    targets = [arguments.output / name for name in files]
    with replacing(targets, overwrite=arguments.overwrite):
        lines = write(model, arguments.output)
    for line in (targets[0], *lines):
        print(one_line(str(line)))


def _form(name: str):
    """The files of a form, and what writes them.

    Raises:
        ResourceError: a library of the form is not installed.
    """
    try:
        match name:
            case "onnx":
                from medseg.export import onnx_file

                return onnx_file.FILES, onnx_file.write_onnx
            case "torch":
                from medseg.export import program

                return (program.PROGRAM,), program.write_program
            case _:
                from medseg.export import bundle

                return bundle.FILES, bundle.write_bundle
    except ModuleNotFoundError as error:
        raise ResourceError(
            f"{error.name} is not installed; pip install 'medseg[export]'"
        ) from error
