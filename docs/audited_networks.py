"""Audits of networks that medseg did not make, beside autograd, torch's counter and measured peaks.

For each network: multiply-accumulates beside `FlopCounterMode`; the extents of the receptive
fields of all voxels of this image beside the support of autograd's gradient (float64, norms and
maxima replaced so that nothing cancels, as in the tests); the predicted peak of tensors beside the
measured one; what the audit names as not known. Prints the table of docs/arithmetic.md.

    pip install --no-deps --target FOLDER timm segmentation_models_pytorch einops \\
        dynamic-network-architectures
    PYTHONPATH=FOLDER:. python docs/audited_networks.py

These packages need torchvision only where nothing is asked of it here; stubs stand in.
"""

import argparse
import sys
import time
import warnings

import torch
from networks_of_others import NETWORKS, Stubs
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from medseg.analysis.audit import OTHER_IMAGES, THROUGH, audit, far_from_borders
from medseg.analysis.memory import network_peak_bytes
from tests.analysis.positive import positive, seen_by_gradient

warnings.simplefilter("ignore")


def counted(network, image):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(image)
    return counter.get_total_flops() // 2


def extents_by_autograd(network, size, outputs):
    """Smallest and largest extent along each axis, of all output voxels."""
    found = []
    for axis, count in enumerate(outputs):
        image = torch.rand(1, 1, *size, dtype=torch.float64)
        first = lambda x: tree_leaves(network(x))[0]  # noqa: E731
        rows = seen_by_gradient(first, image, axis, range(count))
        places = [row.nonzero()[0] for row in rows]
        extents = [int(p[-1] - p[0] + 1) if len(p) else 0 for p in places]
        found.append((min(extents), max(extents)))
    return tuple(found)


def text(ranges):
    return ", ".join("–".join(map(str, sorted(set(r)))) if r else "?" for r in ranges)


def unknown(result, axis):
    return {far_from_borders(axis), OTHER_IMAGES} & result.not_known.keys()


def row_of(name, axes, allowed):
    build, size = NETWORKS[name]
    torch.manual_seed(0)
    network, shape = build(), (1, 1, *size)
    start = time.process_time()
    result = audit(network, shape, seconds=allowed)
    seconds = time.process_time() - start
    flops = counted(network, torch.rand(shape))
    memory = []
    for use in ("inference", "training"):
        predicted = result.memory[use].get("fp32")
        try:
            peak = network_peak_bytes(network, shape, training=use == "training", bf16=False)
        except (RuntimeError, ValueError):
            peak = None
        refused = "refused by torch" if peak is None else f"{peak / 2**20:.1f} (not predicted)"
        both = predicted is not None and peak
        if both:
            estimate = "?" if predicted.unseen else f"{predicted.peak / peak - 1:+.1%}"
            refused = f"{peak / 2**20:.1f} ({predicted.tensors / peak:.0%}; {estimate})"
        memory.append(refused)
    reference = positive(network)
    for module in reference.modules():  # whose results a later layer overwrites
        if getattr(module, "inplace", False):
            module.inplace = False
    autograd = extents_by_autograd(reference, size, result.logits[1:][:axes])
    bounded = any(key.startswith(THROUGH) for key in result.not_known)
    here = result.field_here[:axes]
    agree = "=" if here == autograd else "≤" if bounded else "≠"
    far = [
        (f.smallest, f.largest) if f else ("?" if unknown(result, a) else "all",)
        for a, f in enumerate(result.field)
    ]
    named = sorted({operation for _, operation in result.unknown})
    named += sorted(key for key in result.not_known)
    macs = f"{result.total.macs:,}" + ("" if flops == result.total.macs else f" ({flops:,})")
    return (
        f"| {name} | {macs} | {text(far)} | {text(autograd)} {agree} {text(here)} | "
        f"{' | '.join(memory)} | {'; '.join(named) or '–'} | {seconds:.0f} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="networks; all by default")
    parser.add_argument("--axes", type=int, default=1, help="followed by autograd")
    parser.add_argument("--seconds", type=float, default=5.0, help="allowed for each part")
    arguments = parser.parse_args()
    sys.meta_path.append(Stubs())
    print(
        "| network | MACs (torch's, where they differ) | field far from borders, per axis | "
        "autograd, audit in this image | peak inference | peak training | named as not known | "
        "CPU s |"
    )
    print("|---" * 8 + "|")
    for name in arguments.names or NETWORKS:
        try:
            print(row_of(name, arguments.axes, arguments.seconds), flush=True)
        except Exception as error:
            print(f"| {name} | {type(error).__name__}: {str(error).splitlines()[:1]} |", flush=True)


if __name__ == "__main__":
    main()
