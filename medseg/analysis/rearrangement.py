"""Which values of their inputs the operations look at that only put values elsewhere."""

from collections.abc import Callable

import numpy as np

from medseg.analysis import windows
from medseg.analysis.need import Need, Needs, Question, anywhere, everything, only_where
from medseg.analysis.reshape import reshaped
from medseg.analysis.trace import Step
from medseg.analysis.windows import Mask


def _axis(step: Step, rank: int) -> int:
    return (step.arguments.get("dim") or 0) % rank


def broadcast(need: Need, shape: tuple[int, ...]) -> Need:
    """The need of a tensor of the given shape of which others are made by repetition."""
    own = need[len(need) - len(shape) :]
    return tuple(anywhere(m) if n == 1 else m for m, n in zip(own, shape, strict=True))


def _view(step: Step, question: Question) -> Needs:
    (image,) = step.inputs
    yield image, reshaped(question.need, image.shape, question.queries)


def _permuted(step: Step, question: Question) -> Needs:
    (image,) = step.inputs
    order = [axis % len(image.shape) for axis in step.arguments["dims"]]
    yield image, _in_order(question.need, order)


def _transposed(step: Step, question: Question) -> Needs:
    (image,) = step.inputs
    rank = len(image.shape)
    order = list(range(rank))
    one, other = step.arguments.get("dim0", 0), step.arguments.get("dim1", 1)
    if rank > 1:
        order[one % rank], order[other % rank] = other % rank, one % rank
    yield image, _in_order(question.need, order)


def _in_order(need: Need, order: list[int]) -> Need:
    return tuple(need[order.index(axis)] for axis in range(len(order)))


def _repeated(step: Step, question: Question) -> Needs:
    (image,) = step.inputs
    own = question.need[len(question.need) - len(image.shape) :]
    yield image, tuple(map(_repetitions, own, image.shape))


def _repetitions(mask: Mask, size: int) -> Mask:
    return np.asarray(mask.reshape(len(mask), -1, size).any(axis=1))


def _selected(step: Step, question: Question) -> Needs:
    (image,) = step.inputs
    axis = _axis(step, len(image.shape))
    index = step.arguments["index"] % image.shape[axis]
    yield image, _with_index(question, axis, image.shape[axis], index)


def _unbound(step: Step, question: Question) -> Needs:
    (image,) = step.inputs
    axis = _axis(step, len(image.shape))
    yield image, _with_index(question, axis, image.shape[axis], question.output)


def _with_index(question: Question, axis: int, size: int, index: int) -> Need:
    here = windows.shifted(np.ones((question.queries, 1), dtype=bool), size, index)
    return *question.need[:axis], here, *question.need[axis:]


def _sliced(step: Step, question: Question) -> Needs:
    (image,) = step.inputs
    axis = _axis(step, len(image.shape))
    size, start = image.shape[axis], step.arguments["start"] or 0
    start = max(start + size, 0) if start < 0 else start
    yield image, _moved(question.need, axis, size, start, step.arguments["step"])


def _split(step: Step, question: Question) -> Needs:
    (image,) = step.inputs
    axis = _axis(step, len(image.shape))
    start = sum(part.shape[axis] for part in step.outputs[: question.output])
    yield image, _moved(question.need, axis, image.shape[axis], start, 1)


def _moved(need: Need, axis: int, size: int, start: int, stride: int) -> Need:
    here = windows.shifted(need[axis], size, start, stride)
    return *need[:axis], here, *need[axis + 1 :]


def _joined(step: Step, question: Question) -> Needs:
    need = question.need
    axis = _axis(step, len(need))
    start = 0
    for part in step.arguments["tensors"]:
        if len(part.shape) != len(need):  # torch joins an empty tensor of any rank
            continue
        own = need[axis][:, start : start + part.shape[axis]]
        start += part.shape[axis]
        yield part, only_where(anywhere(own), (*need[:axis], own, *need[axis + 1 :]))


def _stacked(step: Step, question: Question) -> Needs:
    need = question.need
    axis = _axis(step, len(need))
    for index, part in enumerate(step.arguments["tensors"]):
        asked = need[axis][:, index : index + 1]
        yield part, only_where(asked, (*need[:axis], *need[axis + 1 :]))


def _padded(step: Step, question: Question) -> Needs:
    image, need = step.inputs[0], list(question.need)
    pads = step.arguments.get("pad") or step.arguments["padding"]
    for pair in range(len(pads) // 2):  # from the last axis on
        axis = len(image.shape) - 1 - pair
        size = image.shape[axis]
        sources = np.arange(need[axis].shape[1]) - pads[2 * pair]
        if step.operator.startswith("replication"):
            sources = np.clip(sources, 0, size - 1)
        elif step.operator.startswith("reflection"):
            sources = size - 1 - np.abs(size - 1 - np.abs(sources))
        need[axis] = windows.fetched(need[axis], size, sources)
    yield image, tuple(need)


def _flipped(step: Step, question: Question) -> Needs:
    (image,) = step.inputs
    axes = {axis % len(image.shape) for axis in step.arguments["dims"]}
    yield image, tuple(m[:, ::-1] if a in axes else m for a, m in enumerate(question.need))


def _rolled(step: Step, question: Question) -> Needs:
    image, need = step.inputs[0], list(question.need)
    if not step.arguments["dims"]:  # along all axes as if they were one
        yield image, everything(image, question.queries)
        return
    for shift, axis in zip(step.arguments["shifts"], step.arguments["dims"], strict=True):
        need[axis] = np.roll(need[axis], -shift, axis=1)
    yield image, tuple(need)


def _nothing(_step: Step, _question: Question) -> Needs:
    return iter(())


def _same(step: Step, question: Question) -> Needs:
    yield step.inputs[0], question.need


def _copied(step: Step, question: Question) -> Needs:
    source = step.arguments["src"]
    yield source, broadcast(question.need, source.shape)


_PADS = [f"{kind}_pad{dims}d" for kind in ("replication", "reflection") for dims in (1, 2, 3)]

RULES: dict[str, Callable[[Step, Question], Needs]] = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), _view),
    **dict.fromkeys(("unsqueeze", "squeeze", "unflatten"), _view),
    **dict.fromkeys(("transpose", "t"), _transposed),
    **dict.fromkeys(("expand", "repeat"), _repeated),
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    **dict.fromkeys(("clone", "_to_copy", "detach", "alias", "contiguous"), _same),
    **dict.fromkeys(("constant_pad_nd", *_PADS), _padded),
    "permute": _permuted,
    "select": _selected,
    "slice": _sliced,
    "copy": _copied,
    "unbind": _unbound,
    "cat": _joined,
    "stack": _stacked,
    "flip": _flipped,
    "roll": _rolled,
    **dict.fromkeys(("fill", "zero"), _nothing),
}
