#!/usr/bin/env python3
"""How long published trainers' updates take beside ours, over as many pictures.

    python tools/bench_published.py --ways fast_neural_style --rounds 3          # batch 4, 256 px
    python tools/bench_published.py --ways cyclegan cut --batch 1 --rounds 2

Written from the papers and from what the projects say of their defaults, of stock modules, NCHW, float32, with plain
Adam and ``.item()`` for what is logged: pytorch/examples' fast_neural_style (Johnson et al. 2016, without adversarial
term; the same mathematics as our experiment of that name), pytorch-CycleGAN-and-pix2pix (Zhu et al. 2017) and
contrastive-unpaired-translation (Park et al. 2020), whose networks are larger than ours. Weights are random. Ways take
turns within one process, in core-seconds where there is one thread; ratios are medians of the rounds' own.
"""

import argparse
from argparse import Namespace
from collections.abc import Callable, Iterator
from itertools import chain

import torch
from bench_common import alternate, machine, markdown, middle, ratio
from bench_reference import gram, plain_generator
from bench_train import Ours, make_batch
from torch import Tensor, nn
from torch.nn import functional as F

Step = Callable[[], object]
_VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512))


def fast_neural_style(photos: Tensor, style: Tensor) -> Step:
    """Content at relu2_2 and style at the last layer of each stage of VGG-16, whose style targets are made once."""
    generator, stages, incoming = plain_generator(32, 5), nn.ModuleList(), 3
    for number, widths in enumerate(_VGG16):
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if number else []
        for width in widths:
            layers += [nn.Conv2d(incoming, width, 3, padding=1), nn.ReLU()]
            incoming = width
        stages.append(nn.Sequential(*layers))
    stages.requires_grad_(False)
    optimiser = torch.optim.Adam(generator.parameters(), 1e-3)

    def features(x: Tensor) -> list[Tensor]:
        return [x := stage(x) for stage in stages]

    targets = [
        gram(features_of_layer).mean(0, keepdim=True).expand(len(photos), -1, -1)
        for features_of_layer in features(style)
    ]

    def step() -> None:
        optimiser.zero_grad()
        painted = generator(photos)
        of_painted, of_photos = features(painted), features(photos)
        content = F.mse_loss(of_painted[1], of_photos[1])
        looks = sum(
            F.mse_loss(gram(features_of_layer), target)
            for features_of_layer, target in zip(of_painted, targets, strict=True)
        )
        (content + looks).backward()
        optimiser.step()
        _ = content.item(), looks.item()  # type: ignore[union-attr]

    return step


class Resnet(nn.Sequential):
    """CycleGAN's generator with 9 blocks and 64 channels; ``encode`` gives the layers that CUT looks at."""

    def __init__(self) -> None:
        layers = [nn.ReflectionPad2d(3), *_normed(nn.Conv2d(3, 64, 7))]
        layers += [*_normed(nn.Conv2d(64, 128, 3, 2, 1)), *_normed(nn.Conv2d(128, 256, 3, 2, 1))]
        layers += [_Block() for _ in range(9)]
        layers += _normed(nn.ConvTranspose2d(256, 128, 3, 2, 1, 1))
        layers += _normed(nn.ConvTranspose2d(128, 64, 3, 2, 1, 1))
        super().__init__(*layers, nn.ReflectionPad2d(3), nn.Conv2d(64, 3, 7), nn.Tanh())

    def encode(self, x: Tensor) -> list[Tensor]:
        """The photo padded, after both strided convolutions, and after the first and the fifth block."""
        features = []
        for number, layer in enumerate(list(self)[:15]):
            x = layer(x)
            features += [x] if number in (0, 4, 7, 10, 14) else []
        return features


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        first, second = ((nn.ReflectionPad2d(1), *_normed(nn.Conv2d(256, 256, 3))) for _ in range(2))
        self.layers = nn.Sequential(*first, *second[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _normed(convolution: nn.Module) -> list[nn.Module]:
    return [convolution, nn.InstanceNorm2d(convolution.out_channels), nn.ReLU(True)]  # type: ignore[arg-type]


def patch_discriminator() -> nn.Sequential:
    """The 70 x 70 PatchGAN of Isola et al. 2017."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for incoming, outgoing, stride in ((64, 128, 2), (128, 256, 2), (256, 512, 1)):
        layers += [nn.Conv2d(incoming, outgoing, 4, stride, 1), nn.InstanceNorm2d(outgoing), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv2d(512, 1, 4, 1, 1))


def _least_squares(logits: Tensor, target: float) -> Tensor:
    return (logits - target).square().mean()


def _adam(*networks: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(chain(*(network.parameters() for network in networks)), 2e-4, (0.5, 0.999))


def cyclegan(photos: Tensor, style: Tensor) -> Step:
    """Both generators with cycle and identity losses, then both discriminators (Zhu et al. 2017, section 3)."""
    there, back, of_style, of_photos = Resnet(), Resnet(), patch_discriminator(), patch_discriminator()
    generators, discriminators = _adam(there, back), _adam(of_style, of_photos)

    def step() -> None:
        fake_style, fake_photos = there(photos), back(style)
        again, style_again = back(fake_style), there(fake_photos)
        for discriminator in (of_style, of_photos):
            discriminator.requires_grad_(False)
        losses = [_least_squares(of_style(fake_style), 1), _least_squares(of_photos(fake_photos), 1)]
        losses += [10 * F.l1_loss(again, photos), 10 * F.l1_loss(style_again, style)]
        losses += [5 * F.l1_loss(there(style), style), 5 * F.l1_loss(back(photos), photos)]
        generators.zero_grad()
        sum(losses).backward()  # type: ignore[union-attr]
        generators.step()
        discriminators.zero_grad()
        for network, real, fake in ((of_style, style, fake_style), (of_photos, photos, fake_photos)):
            network.requires_grad_(True)
            loss = (_least_squares(network(real), 1) + _least_squares(network(fake.detach()), 0)) / 2
            loss.backward()
            losses.append(loss)
        discriminators.step()
        _ = [loss.item() for loss in losses]

    return step


def cut(photos: Tensor, style: Tensor) -> Step:
    """One generator, PatchNCE on photos and, as identity, on style pictures (Park et al. 2020, section 3)."""
    generator, discriminator = Resnet(), patch_discriminator()
    widths = [features.shape[1] for features in generator.encode(photos)]
    heads = nn.ModuleList(nn.Sequential(nn.Linear(n, 256), nn.ReLU(), nn.Linear(256, 256)) for n in widths)
    optimisers = _adam(generator), _adam(discriminator), _adam(heads)

    def nce(source: Tensor, result: Tensor) -> Tensor:
        losses = []
        pairs = zip(generator.encode(source), generator.encode(result), heads, strict=True)
        for keys, queries, head in pairs:
            places = torch.randperm(keys.shape[2] * keys.shape[3])[:256]
            k, q = (F.normalize(head(x.flatten(2).transpose(1, 2)[:, places]), dim=-1) for x in (keys, queries))
            logits = torch.bmm(q, k.detach().transpose(1, 2)) / 0.07
            target = torch.arange(len(places)).expand(len(logits), -1)
            losses.append(F.cross_entropy(logits.flatten(0, 1), target.flatten()))
        return torch.stack(losses).mean()

    def step() -> None:
        fake, identity = generator(torch.cat([photos, style])).chunk(2)
        for optimiser in optimisers:
            optimiser.zero_grad()
        discriminator.requires_grad_(True)
        of_fake, of_real = discriminator(fake.detach()), discriminator(style)
        loss = (_least_squares(of_fake, 0) + _least_squares(of_real, 1)) / 2
        loss.backward()
        optimisers[1].step()
        discriminator.requires_grad_(False)
        losses = [_least_squares(discriminator(fake), 1), nce(photos, fake) / 2, nce(style, identity) / 2]
        sum(losses).backward()  # type: ignore[union-attr]
        optimisers[0].step()
        optimisers[2].step()
        _ = loss.item(), [optimiser.item() for optimiser in losses]

    return step


PUBLISHED = {"fast_neural_style": fast_neural_style, "cyclegan": cyclegan, "cut": cut}
_EXPERIMENTS = {"fast_neural_style": ("vgg16", ["loss.content.layers=[relu2_2]"]), "cut": ("compact", [])}


def our_steps(given: Namespace, name: str) -> Iterator[tuple[str, Step]]:
    """Our experiment of the same mathematics, where there is one, else the adversarial step with VGG-19 and compact."""
    perceptual, options = _EXPERIMENTS.get(name, ("", []))
    kinds = {f"experiment={name}": (perceptual, [f"experiment={name}", *options])} if perceptual else {}
    if name != "fast_neural_style":
        kinds |= {"default step, vgg19": ("vgg19", []), "default step, compact": ("compact", [])}
    for kind, (network, more) in kinds.items():
        for precision in given.precision:
            ours = Ours(Namespace(**vars(given) | {"options": more}), network, precision, given.size)
            batch = make_batch(given, given.size, torch.device("cpu"))
            if kind != "experiment=cut":
                ours.prepare(batch)
            yield f"ours, {kind}, {precision}", lambda ours=ours, batch=batch: ours.step(batch)  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", default=list(PUBLISHED), choices=PUBLISHED)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"], choices=("float32", "bfloat16"))
    options = parser.parse_args(namespace=Namespace(device="cpu", weights=None, generator="resnet"))
    torch.set_num_threads(options.threads)
    batch = make_batch(options, options.size, torch.device("cpu"))
    photos, style = (pictures.float() / 127.5 - 1 for pictures in (batch.content, batch.style))
    print(f"{machine(torch.device('cpu'))}; {options.size} px, batch {options.batch}", flush=True)
    for name in options.ways:
        ways: dict[str, Step] = {f"{name}, as published": PUBLISHED[name](photos, style)}
        published = next(iter(ways))
        ways |= dict(our_steps(options, name))
        timings = alternate(ways, options.rounds, torch.device("cpu"), plain=[published])
        rows = [
            {"step": way, "times as fast": ratio(timings[published], seconds), "seconds": middle(seconds)}
            for way, seconds in timings.items()
        ]
        print(f"\n{markdown(rows)}", flush=True)


if __name__ == "__main__":
    main()
