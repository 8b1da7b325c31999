"""The ImageNet competition as lecture 4 lists it: layers and parameters of its winners."""

from functools import partial

from course import networks
from course.fact import Fact, Topic, rounded

_fact = partial(Fact, lecture=4)


def imagenet() -> Topic:
    """What the notes say of five networks, from their published layer tables."""
    alexnet, google = networks.alexnet(), networks.googlenet()
    return Topic(
        title="The ImageNet competition",
        text=(
            "AlexNet was the first convolutional network to win, in 2012; ZFNet had more filters; "
            "VGG and GoogLeNet went deep in 2014, ResNet deeper in 2015. Layers are counted with "
            "weights only, along the longest way.",
            f"Computed from the tables: AlexNet {networks.total(alexnet):,} parameters, "
            f"VGG-19 {networks.total(networks.vgg19()):,}, GoogLeNet {networks.total(google):,}.",
        ),
        facts=(
            _layers("2012: AlexNet", 8, len(alexnet)),
            rounded(
                lecture=4,
                place="2012: AlexNet",
                printed="61 million parameters",
                stated=61_000_000,
                computed=networks.total(alexnet),
                how="weights and biases of the layer table",
            ),
            _layers("2013: ZFNet", 8, len(networks.zfnet())),
            _fact(
                place="2013: ZFNet",
                printed="more filters",
                stated=True,
                computed=_filters(networks.zfnet()) > _filters(alexnet),
                how=f"{_filters(networks.zfnet()):,} filters in the version that won, "
                f"{_filters(alexnet):,} in AlexNet",
            ),
            _layers("2014: VGG", 19, len(networks.vgg19())),
            _layers("2014: GoogLeNet", 22, networks.googlenet_depth()),
            rounded(
                lecture=4,
                place="2014: GoogLeNet",
                printed="5 million parameters",
                stated=5_000_000,
                computed=networks.total(google),
                how="weights and biases of the published inception table",
                erratum="the published table gives 7.0 million, without auxiliary classifiers.",
            ),
            _layers("2015: ResNet", 152, networks.resnet152_depth()),
        ),
    )


def _layers(place: str, stated: int, computed: int) -> Fact:
    return _fact(
        place=place,
        printed=f"{stated} layers",
        stated=stated,
        computed=computed,
        how="layers with weights on the longest way",
    )


def _filters(rows: list[networks.Row]) -> int:
    return sum(row.out_channels for row in rows if row.kernel)
