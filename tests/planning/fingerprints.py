"""Fingerprints of datasets that are not there: published spacings and sizes."""

from medseg.planning.fingerprint import CaseFacts, Fingerprint


def made(
    spacing: tuple,
    size: tuple,
    *,
    cases: int = 20,
    channels: tuple = ("MRI",),
    classes: tuple = ("organ",),
    extent: tuple | None = None,
    cropped: tuple | None = None,
) -> Fingerprint:
    """Cases that are all alike, along RAS axes; a class is half as long as the case."""
    own = extent or tuple(n * mm / 2 for n, mm in zip(size, spacing, strict=True))
    facts = [
        CaseFacts(
            case_id=f"case_{number}",
            spacing=spacing,
            size=size,
            cropped=cropped or size,
            extents=dict.fromkeys(classes, own),
            voxels=dict.fromkeys(classes, 100),
            intensities=[[float(v) for v in range(-100, 200)] for _ in channels],
            lowest=[-100.0 for _ in channels],
        )
        for number in range(cases)
    ]
    return Fingerprint(name="made", channels=channels, classes=classes, cases=tuple(facts))


def mixed(*parts: Fingerprint) -> Fingerprint:
    """The cases of several datasets together."""
    cases = tuple(case for part in parts for case in part.cases)
    first = parts[0]
    return Fingerprint(name="mixed", channels=first.channels, classes=first.classes, cases=cases)
