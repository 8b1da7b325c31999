"""`medseg serve`: a trained network behind HTTP, on this machine unless told otherwise."""

import argparse
import re
import socket
import sys
from pathlib import Path

from medseg.cli.command import add_engine, command, make_parser, positive
from medseg.errors import ResourceError
from medseg.formatting import one_line

_LOOPBACK = ("127.0.0.1", "localhost")
_PORTS = 65535
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_SECONDS_TO_END = 3  # for requests at work, once the service is told to end


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "serve",
        "Segment volumes that are sent by HTTP, and show them in a page of this service. "
        "POST /predict takes one file as the form's field `file` and answers with the label map "
        "(.nii.gz); GET /model names the classes. Nothing that was sent is kept.",
        "exit codes: 0 ended, 2 usage, 3 no such model, 4 machine (port, memory, device)",
    )
    parser.add_argument(
        "-m", "--model", type=Path, required=True, metavar="RUN",
        help="a run's folder, a .safetensors or a .ckpt file",
    )  # fmt: skip
    parser.add_argument("--port", type=_port, default=8000, help="default: 8000; 0: any free one")
    parser.add_argument(
        "--host", default=_LOOPBACK[0],
        help="address to listen on; default: this machine alone (127.0.0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--name", action="append", default=[], metavar="NAME",
        help="a name under which clients know this machine, with --host",
    )  # fmt: skip
    parser.add_argument("-d", "--device", default="auto", help="auto, cpu, cuda, cuda:N")
    add_engine(parser)
    parser.add_argument(
        "--max-upload", type=_bytes, default=10**9, metavar="SIZE",
        help="largest file as it is sent, such as 500MB; default: 1GB",
    )  # fmt: skip
    parser.add_argument(
        "--max-unpacked", type=_bytes, default=4 * 10**9, metavar="SIZE",
        help="largest file when unpacked, and most memory of its voxels; default: 4GB",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=positive, default=600, metavar="SECONDS",
        help="from the first byte of a request to its answer; default: 600",
    )  # fmt: skip
    parser.add_argument("--workers", type=positive, default=1, help="volumes at once; default: 1")
    parser.add_argument(
        "--waiting", type=positive, default=4,
        help="volumes that wait; further ones are answered 503; default: 4",
    )  # fmt: skip
    return parser


@command(_parser, stopped="ended")
def main(arguments: argparse.Namespace) -> None:
    """Serves until it is told to end."""
    try:
        import uvicorn

        from medseg.serving.app import make_app
    except ModuleNotFoundError as error:
        raise ResourceError(
            f"{error.name} is not installed; pip install 'medseg[serve]'"
        ) from error
    from medseg.analysis.memory import window_bytes
    from medseg.inference.predictor import Predictor
    from medseg.models.weights import load_model
    from medseg.serving.limits import Limits
    from medseg.serving.work import Segmenter

    model = load_model(arguments.model)
    predictor = Predictor(
        model,
        device=arguments.device,
        engine=arguments.engine,
        window_bytes=window_bytes(model.card),
    )
    limits = Limits(
        upload=arguments.max_upload,
        unpacked=arguments.max_unpacked,
        seconds=arguments.timeout,
        workers=arguments.workers,
        waiting=arguments.waiting,
    )
    app = make_app(Segmenter(model, predictor, limits), limits, _names(arguments))
    with _listening(arguments.host, arguments.port) as listener:
        address = f"http://{arguments.host}:{listener.getsockname()[1]}"
        print(one_line(f"{address}  segments {', '.join(model.card.classes)}"), flush=True)
        config = uvicorn.Config(
            app,
            log_config=None,  # its own would take the place of the process's
            log_level="warning",
            timeout_graceful_shutdown=_SECONDS_TO_END,
            server_header=False,
        )
        uvicorn.Server(config).run(sockets=[listener])


def _names(arguments: argparse.Namespace) -> list[str]:
    """Names under which the service may be asked for; a warning where others can reach it."""
    if arguments.host in _LOOPBACK:
        return [*_LOOPBACK, *arguments.name]
    print(
        f"warning: --host {one_line(arguments.host)} lets every machine of the network send "
        "volumes here and read the answers, unencrypted and without a password; put a proxy with "
        "TLS and a login in front",
        file=sys.stderr,
    )
    own = [arguments.host, socket.gethostname(), socket.getfqdn()]
    return [*_LOOPBACK, *own, *arguments.name]


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ResourceError: the port is taken, or the address is not this machine's.
    """
    try:
        return socket.create_server((host, port), backlog=64)
    except OSError as error:
        raise ResourceError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}); choose another "
            "--port, or --host"
        ) from error


def _port(text: str) -> int:
    """A port, for `argparse`."""
    if not text.isdigit() or int(text) > _PORTS:
        raise argparse.ArgumentTypeError(f"{text} must be a number from 0 to {_PORTS}")
    return int(text)


def _bytes(text: str) -> int:
    """A number of bytes such as 500MB, for `argparse`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found or not (size := int(float(found[1]) * _UNITS[found[2].upper()])):
        raise argparse.ArgumentTypeError(f"{text!r} must be a size such as 500MB or 2GB")
    return size
