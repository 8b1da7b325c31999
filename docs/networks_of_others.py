"""The networks that audited_networks.py audits: of MONAI, nnU-Net, timm, and small odd ones."""

import importlib.abc
import importlib.machinery
import types

import torch
from monai.networks import nets
from monai.networks.nets.restormer import Restormer
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint


class Anything(type):
    """A class in which every name is another such class."""

    def __getattr__(cls, name):
        return stand_in(name)


def stand_in(name):
    """Something that can be called, subclassed and looked into, whatever it is."""
    if name.startswith("__"):
        raise AttributeError(name)
    taking_all = {
        "__new__": lambda cls, *_args, **_options: object.__new__(cls),
        "__init__": lambda self, *_args, **_options: None,
        "__init_subclass__": classmethod(lambda cls, **_options: None),
    }
    return Anything(name, (), taking_all)


class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules in place of packages that are imported and not used."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torchvision", "huggingface_hub"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = stand_in
        return module

    def exec_module(self, module):
        pass


def smp(name, **options):
    def build():
        import segmentation_models_pytorch

        return getattr(segmentation_models_pytorch, name)(
            "tu-resnet18", encoder_weights=None, in_channels=1, classes=2, **options
        )

    return build


def timm_features(name):
    """The finest feature map."""

    def build():
        import timm

        net = timm.create_model(name, pretrained=False, features_only=True, in_chans=1)
        return Layers(lambda x, n: n(x)[-1], net)

    return build


def nnunet(name, dims, **options):
    def build():
        from dynamic_network_architectures.architectures import unet

        conv, norm = (nn.Conv2d, nn.InstanceNorm2d) if dims == 2 else (nn.Conv3d, nn.InstanceNorm3d)
        depths = {"n_blocks_per_stage": 1} if "Residual" in name else {"n_conv_per_stage": 2}
        return getattr(unet, name)(
            1, 3, (4, 8, 8), conv, 3, (1, 2, 2), **depths, num_classes=2,
            n_conv_per_stage_decoder=1, conv_bias=True, norm_op=norm,
            norm_op_kwargs={"affine": True}, nonlin=nn.LeakyReLU, **options,
        )  # fmt: skip

    return build


class Layers(nn.Module):
    """A function of an image and of layers."""

    def __init__(self, function, *layers):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x):
        return self.function(x, *self.layers)


def conv(channels=1, out=4, kernel=3, stride=1):
    return nn.Conv2d(channels, out, kernel, stride, kernel // 2)


def resized(x, y):
    return functional.interpolate(y, size=x.shape[2:], mode="bilinear")


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.lstm = conv(), nn.LSTM(4, 4, batch_first=True)

    def forward(self, x):
        rows = self.conv(x)[0].permute(1, 2, 0)
        return self.lstm(rows)[0].permute(2, 0, 1)[None]


def sampled(x, first):
    turn = torch.tensor([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0]], dtype=x.dtype)[None]
    y = first(x)
    return functional.grid_sample(
        y, functional.affine_grid(turn, list(y.shape), align_corners=False), align_corners=False
    )


def attended(x, down, attention, up):
    y = down(x)
    tokens = y.flatten(2).transpose(1, 2)
    tokens = attention(tokens, tokens, tokens, need_weights=False)[0]
    return up(tokens.transpose(1, 2).unflatten(2, y.shape[2:]))


def windows(x, first):
    """Windows of 5 rows, shifted by 2."""
    y = functional.pad(torch.roll(first(x), -2, 2), (0, 0, 0, -x.shape[2] % 5))
    y = y.unflatten(2, (-1, 5))
    return torch.roll((y + y.sum(3, keepdim=True)).flatten(2, 3)[:, :, : x.shape[2]], 2, 2)


def excited(x, first, second):
    y = first(x)
    return y * second(y.mean((2, 3), keepdim=True)).sigmoid()


def fused(x, down, up):
    y = down(x)
    tokens = y.flatten(2).transpose(1, 2).unflatten(2, (2, 4)).transpose(1, 2)
    tokens = functional.scaled_dot_product_attention(tokens, tokens, tokens)
    return up(tokens.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, y.shape[2:]))


def encoded(x, down, layer, up):
    y = down(x)
    return up(layer(y.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, y.shape[2:]))


def unfolded(x, first):
    return functional.fold(functional.unfold(first(x), 3, padding=1), x.shape[2:], 3, padding=1)


def along_rows(x, first, layer):
    return layer(first(x)[0].permute(1, 2, 0))[0].permute(2, 0, 1)[None]


class Fourier(nn.Module):
    """A filter of frequencies, with complex weights."""

    def __init__(self):
        super().__init__()
        self.conv = conv()
        self.weight = nn.Parameter(torch.ones(4, 64, 33, dtype=torch.cfloat))

    def forward(self, x):
        return torch.fft.irfft2(torch.fft.rfft2(self.conv(x)) * self.weight, s=x.shape[2:])


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class Averaged(nn.Module):
    """A buffer that every call changes."""

    def __init__(self):
        super().__init__()
        self.conv = conv()
        self.register_buffer("mean", torch.zeros(1, 4, 64, 64))

    def forward(self, x):
        y = self.conv(x)
        self.mean.mul_(0.9).add_(y.detach(), alpha=0.1)
        return y + self.mean


class Tied(nn.Module):
    """One kernel on the way down and on the way up."""

    def __init__(self):
        super().__init__()
        self.down = conv(1, 4, 3, 2)

    def forward(self, x, scale=None):
        small = functional.relu(self.down(x))
        return functional.conv_transpose2d(small, self.down.weight, None, 2, 1, 1)


class Repeated(nn.Module):
    """A convolution in a loop whose state the image drives."""

    def __init__(self):
        super().__init__()
        self.enter, self.step = conv(), conv(8, 4)

    def forward(self, x):
        state = x.new_zeros(len(x), 4, *x.shape[2:])
        entered = self.enter(x)
        for _ in range(4):
            state = torch.tanh(self.step(torch.cat([entered, state], 1)))
        return {"logits": state, "entered": entered}


def sorted_channels(x, first):
    y = first(x)
    order = y.mean(dim=(0, 2, 3)).argsort()
    return y.index_select(1, order)


def masked(x, first, last):
    tokens = first(x)
    size = tokens.shape[2:]
    tokens = tokens.flatten(2).transpose(1, 2)[:, None]
    mask = torch.ones(size.numel(), size.numel(), dtype=torch.bool, device=x.device).tril()
    made = functional.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=mask)
    return last(made[:, 0].transpose(1, 2).unflatten(2, size))


def checkpointed(x, *layers):
    for layer in layers:
        x = checkpoint(layer, x, use_reentrant=False)
    return x


def patches(x, first, last):
    """Means of windows that overlap."""
    return last(first(x).unfold(2, 3, 1).unfold(3, 3, 1).mean(dim=(-2, -1)))


def scripted(channels, out):
    return torch.jit.script(nn.Sequential(conv(channels, out), nn.ReLU()))


def spectral():
    return nn.Sequential(spectral_norm(conv()), nn.ReLU(), weight_norm(conv(4, 2)))


SQUARE, CUBE = (64, 64), (32, 32, 32)
NETWORKS = {
    "MONAI UNETR": (lambda: nets.UNETR(1, 2, CUBE, 4, 24, 32, 2), CUBE),
    "MONAI ViTAutoEnc": (
        lambda: nets.ViTAutoEnc(1, CUBE, (16, 16, 16), out_channels=1, hidden_size=24, mlp_dim=32,
                                num_layers=2, num_heads=2), CUBE),
    "MONAI SwinUNETR": (
        lambda: nets.SwinUNETR(in_channels=1, out_channels=2, feature_size=12, spatial_dims=2,
                               num_heads=(1, 1, 1, 1)), SQUARE),
    "MONAI VNet": (lambda: nets.VNet(3, 1, 2), CUBE),
    "MONAI HighResNet": (lambda: nets.HighResNet(2, 1, 2), SQUARE),
    "MONAI RegUNet": (lambda: nets.RegUNet(2, 1, 4, 2, out_channels=2), SQUARE),
    "MONAI FlexibleUNet": (
        lambda: nets.FlexibleUNet(1, 2, "resnet18", spatial_dims=2), SQUARE),
    "MONAI BasicUNet++": (
        lambda: Layers(lambda x, n: n(x)[0], nets.BasicUNetPlusPlus(2, 1, 2, (4, 4, 8, 8, 8, 4))),
        SQUARE),
    "nnU-Net PlainConvUNet 2-D": (nnunet("PlainConvUNet", 2), SQUARE),
    "nnU-Net PlainConvUNet 3-D": (nnunet("PlainConvUNet", 3), CUBE),
    "nnU-Net ResidualEncoderUNet 2-D": (nnunet("ResidualEncoderUNet", 2), SQUARE),
    "nnU-Net ResidualEncoderUNet 3-D": (nnunet("ResidualEncoderUNet", 3), CUBE),
    "smp Unet": (smp("Unet"), SQUARE),
    "smp Unet++": (smp("UnetPlusPlus"), SQUARE),
    "smp MAnet": (smp("MAnet"), SQUARE),
    "smp Linknet": (smp("Linknet"), SQUARE),
    "smp FPN": (smp("FPN"), SQUARE),
    "smp PSPNet": (smp("PSPNet"), SQUARE),
    "smp PAN": (smp("PAN"), (128, 128)),
    "smp DeepLabV3": (smp("DeepLabV3"), SQUARE),
    "smp DeepLabV3+": (smp("DeepLabV3Plus"), SQUARE),
    "smp UPerNet": (smp("UPerNet"), SQUARE),
    "timm resnet18": (timm_features("resnet18"), SQUARE),
    "timm convnext_atto": (timm_features("convnext_atto"), SQUARE),
    "timm efficientnet_b0": (timm_features("efficientnet_b0"), SQUARE),
    "timm mobilenetv3_small_050": (timm_features("mobilenetv3_small_050"), SQUARE),
    "timm regnety_002": (timm_features("regnety_002"), SQUARE),
    "adaptive mean, interpolated": (
        lambda: Layers(lambda x, a, b: resized(x, b(functional.adaptive_avg_pool2d(a(x), 8))),
                       conv(), conv(4)), SQUARE),
    "adaptive mean": (
        lambda: Layers(lambda x, a: functional.adaptive_avg_pool2d(a(x), 8), conv()), SQUARE),
    "BatchNorm on one voxel": (
        lambda: nn.Sequential(conv(1, 4, 3, 2), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 2, 2, 2)),
        (2, 2)),
    "grid_sample at constants": (lambda: Layers(sampled, conv()), SQUARE),
    "LSTM along rows": (Recurrent, (32, 32)),
    "GRU along rows": (
        lambda: Layers(along_rows, conv(), nn.GRU(4, 4, batch_first=True)), (32, 32)),
    "adaptive maximum": (
        lambda: nn.Sequential(conv(), nn.AdaptiveMaxPool2d(8), conv(4)), SQUARE),
    "windows with shifts": (lambda: Layers(windows, conv()), (30, 30)),
    "squeeze and excitation": (lambda: Layers(excited, conv(), conv(4, 4, 1)), SQUARE),
    "fused attention": (
        lambda: Layers(fused, conv(1, 8, 3, 4), nn.ConvTranspose2d(8, 2, 4, 4)), SQUARE),
    "transformer layer": (
        lambda: Layers(encoded, conv(1, 8, 3, 4),
                       nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
                       nn.ConvTranspose2d(8, 2, 4, 4)), SQUARE),
    "unfold and fold": (lambda: Layers(unfolded, conv()), (32, 32)),
    "sum of all rows before": (lambda: Layers(lambda x, a: a(x).cumsum(2), conv()), (32, 32)),
    "corners aligned": (
        lambda: nn.Sequential(conv(1, 4, 3, 2), nn.Upsample(
            scale_factor=2, mode="bilinear", align_corners=True)), SQUARE),
    "pixel shuffle": (
        lambda: nn.Sequential(conv(1, 4, 3, 2), conv(4, 8), nn.PixelShuffle(2)), SQUARE),
    "dilated branches": (
        lambda: Layers(lambda x, *all: sum(each(x) for each in all),
                       *(nn.Conv2d(1, 2, 3, padding=r, dilation=r) for r in (1, 6, 12))), SQUARE),
    "layer norm of channels": (
        lambda: Layers(lambda x, a, b, c: c(b(a(x).movedim(1, -1)).movedim(-1, 1)),
                       conv(), nn.LayerNorm(4), conv(4)), SQUARE),
    "reflected borders": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 5, padding=2, padding_mode="reflect"),
                              nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular")), SQUARE),
    "a choice by value": (
        lambda: Layers(lambda x, a: a(x) if float(x.detach().mean()) < 9 else x, conv()), SQUARE),
    "multi-head attention": (
        lambda: Layers(attended, conv(1, 8, 3, 4), nn.MultiheadAttention(8, 2, batch_first=True),
                       nn.ConvTranspose2d(8, 2, 4, 4)), SQUARE),
    "MONAI Restormer": (
        lambda: Restormer(2, 1, 2, dim=8, num_blocks=(1, 1), heads=(1, 1),
                               num_refinement_blocks=1), SQUARE),
    "MONAI SegResNetDS": (
        lambda: nets.SegResNetDS(2, 8, 1, 2, blocks_down=(1, 1, 1), dsdepth=2), SQUARE),
    "MONAI MedNeXt": (lambda: nets.MedNeXt(2, 4, 1, 2, 2, 2, blocks_down=(1, 1, 1, 1),
                                           blocks_bottleneck=1, blocks_up=(1, 1, 1, 1)), SQUARE),
    "MONAI AutoencoderKL": (
        lambda: nets.AutoencoderKL(2, 1, 1, num_res_blocks=(1, 1), channels=(8, 8),
                                   attention_levels=(False, False), norm_num_groups=4), SQUARE),
    "smp Segformer": (smp("Segformer"), SQUARE),
    "timm pvt_v2_b0": (timm_features("pvt_v2_b0"), SQUARE),
    "timm poolformerv2_s12": (timm_features("poolformerv2_s12"), SQUARE),
    "Fourier filter": (Fourier, SQUARE),
    "complex numbers": (
        lambda: Layers(lambda x, a, b: torch.complex(a(x), b(x)).abs(), conv(), conv()), SQUARE),
    "einsum over channels": (
        lambda: Layers(lambda x, a, b: torch.einsum("nchw,oc->nohw", a(x), b.weight),
                       conv(), nn.Linear(4, 6)), SQUARE),
    "spectral and weight norm": (spectral, SQUARE),
    "own gradient": (lambda: Layers(lambda x, a: Square.apply(a(x)), conv()), SQUARE),
    "a buffer changes": (Averaged, SQUARE),
    "tied weights": (Tied, SQUARE),
    "a loop, dict of outputs": (Repeated, SQUARE),
    "channels in computed order": (lambda: Layers(sorted_channels, conv()), SQUARE),
    "masked attention": (
        lambda: Layers(masked, conv(1, 8, 3, 4), nn.ConvTranspose2d(8, 2, 4, 4)), SQUARE),
    "checkpointed": (
        lambda: Layers(checkpointed, conv(), conv(4, 8), conv(8, 2)), SQUARE),
    "windows that overlap": (lambda: Layers(patches, conv(), conv(4, 2)), SQUARE),
    "scripted": (lambda: nn.Sequential(scripted(1, 4), conv(4, 2)), SQUARE),
    "half precision inside": (
        lambda: Layers(lambda x, a, b: b(a(x).to(b.weight.dtype)).float(), conv(),
                       conv(4, 4).bfloat16()), SQUARE),
    "unshuffled pixels": (
        lambda: nn.Sequential(nn.PixelUnshuffle(2), conv(4, 8), nn.GroupNorm(2, 8),
                              nn.PixelShuffle(2)), SQUARE),
}  # fmt: skip
