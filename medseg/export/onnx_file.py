"""A trained network as an ONNX file, with a script that runs it without torch."""

import inspect
import json
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor

from medseg.errors import ConfigError
from medseg.export import segment
from medseg.export.program import (
    Exported,
    card_of,
    compared,
    exported,
    quiet,
    refused,
    sizes_to_compare,
)
from medseg.files import atomic_path, write_text
from medseg.models.weights import TrainedModel

MODEL, RUNNER = "model.onnx", "segment.py"
FILES = (MODEL, RUNNER)

OPSET = 20
"""The first in which GridSample, of deformable convolutions, takes volumes."""

_LARGEST_BYTES = 2**31 - 1  # of one file, by protobuf


def write_onnx(model: TrainedModel, folder: Path) -> list[str]:
    """Writes `model.onnx` with the model's card in its metadata, and `segment.py` that runs it.

    Returns:
        Lines that say what was written.

    Raises:
        ConfigError: an operator has no form in ONNX, or the file computes something else.
    """
    found = exported(model)
    graph = _graph(model, found)
    card = card_of(model, found) | {"opset": OPSET}
    names = ["background", *model.card.labelling.value_names]
    classes = ", ".join(f"{value} {name}" for value, name in enumerate(names))
    shown = {"opset": str(OPSET), "sizes": found.sizes, "classes": classes}
    for key, value in ({"medseg": json.dumps(card)} | shown).items():
        graph.metadata_props.add(key=key, value=value)
    if graph.ByteSize() > _LARGEST_BYTES:
        raise ConfigError(
            f"{model.source}: {graph.ByteSize() / 2**30:.1f} GiB exceed the 2 GiB of one ONNX "
            "file; choose --format torch"
        )
    content = graph.SerializeToString()
    agreement = compared(model, sizes_to_compare(model, found), _runs(content))
    with atomic_path(folder / MODEL) as part:
        part.write_bytes(content)
    write_text(folder / RUNNER, inspect.getsource(segment))
    return [
        f"ONNX opset {OPSET}, takes {found.sizes}; classes: {classes}",
        str(agreement),
        f"without torch: python {folder / RUNNER} {folder / MODEL} IMAGE.nii.gz OUT",
    ]


def _graph(model: TrainedModel, found: Exported) -> onnx.ModelProto:
    try:
        with quiet():
            program = torch.onnx.export(
                found.program,
                input_names=["image"],
                output_names=["logits"],
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # torch raises whatever its translator meets
        raise refused(model, "ONNX", error) from error
    assert program is not None
    graph = program.model_proto
    onnx.checker.check_model(graph)
    return graph


def _runs(content: bytes):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def form(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"image": image.numpy()})[0])

    return form
