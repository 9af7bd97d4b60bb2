"""What test_equivalence.py compares: a few steps of every variant, on one rank or, as this program, on several.

``launch(2, [python, ranks_driver.py, FOLDER, NAMES])`` leaves what each rank found in FOLDER/RANK.pt.
"""

import math
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_style.data.stream import Batch
from gan_style.functional import AUGMENTATIONS
from gan_style.losses.adversarial import Adversarial
from gan_style.losses.content import Content, GatysContent
from gan_style.losses.objective import Objective, content_layers, style_layers
from gan_style.losses.patch_nce import PatchNCE
from gan_style.losses.pixel import AbsoluteVariation, Colour, Identity, SquaredVariation
from gan_style.losses.stability import Stability
from gan_style.losses.style import CROP, EACH, CentredGramStyle, GatysStyle, GramStyle, MomentStyle
from gan_style.losses.term import Term
from gan_style.models.discriminator import PatchDiscriminator
from gan_style.models.generator import ResnetGenerator
from gan_style.models.library import LibraryGenerator
from gan_style.models.perceptual import compact
from gan_style.models.reference import ReferenceGenerator
from gan_style.runtime.distributed import Ranks, ranks
from gan_style.training.state import Ema, TrainState
from gan_style.training.step import Precision, train_step
from gan_style.training.supervisor import fetch_scalars

BATCH, STEPS, SIZE = 4, 5, 24
PATH = "a painting.png"
SGD = partial(torch.optim.SGD, lr=0.01)
ADAM = partial(torch.optim.Adam, lr=1e-3, fused=True)


@dataclass
class Variant:
    """Terms that replace or join the default ones, None to leave one out; and how they are trained."""

    terms: dict[str, Any] = field(default_factory=dict)
    balance: dict[str, float] | None = None
    warmup_steps: int = 0
    clip: float | None = None
    optimiser: Any = SGD
    precision: torch.dtype = torch.float32
    library: bool = False
    reference: bool = False


# From some starts a unit comes to stand at its threshold, where rounding decides over its gradient (6: step 3 of the
# reference's; 7); from this one none does in the few steps of these tests.
START = 8

# Several terms and settings at once: between them every one that training has.
VARIANTS = {
    "no discriminator": Variant({"adversarial": None, "style": None, "tv": None}),
    "each, identity, colour, absolute variation, R1, augmented": Variant(
        {
            "adversarial": Adversarial(r1=1.0, augment=list(AUGMENTATIONS)),
            "style": GramStyle(weight=1.0, layers=["relu1_1", "relu2_1"], target=EACH),
            "identity": Identity(weight=1.0),
            "colour": Colour(weight=1.0),
            "tv": AbsoluteVariation(weight=1.0),
        }
    ),
    "least squares, centred, path, moments, grey, identity, stability, clipped": Variant(
        {
            "adversarial": Adversarial(formula="least_squares"),
            "style": CentredGramStyle(weight=1.0, layers=["relu1_1"], target=PATH),
            "moments": MomentStyle(weight=1.0, layers=["relu2_1"], target=EACH, grey=True),
            "identity": Identity(weight=1.0),
            "stability": Stability(weight=1.0),
        },
        clip=0.1,
    ),
    "library, R1": Variant({"adversarial": Adversarial(r1=1.0)}, library=True),
    # moments of relu1_1: in step 2 a unit of relu2_1 stands at its threshold, where rounding decides over its gradient
    "reference, crop, identity": Variant(
        {
            "style": GramStyle(weight=1.0, layers=["relu1_1"], target=CROP),
            "moments": MomentStyle(weight=1.0, layers=["relu1_1"], target=CROP, grey=True),
            "identity": Identity(weight=1.0),
        },
        reference=True,
    ),
    "nonsaturating, Gatys, balance": Variant(
        {
            "adversarial": Adversarial(formula="nonsaturating"),
            "style": GatysStyle(weight=1.0, layers=["relu1_1", "relu2_1"]),
            "content": GatysContent(weight=1e-3, layers=["relu2_1"]),
        },
        {"content": 1, "style": 2, "adversarial": 1},
        warmup_steps=2,
    ),
    "PatchNCE": Variant(
        {
            "patch_nce": PatchNCE(
                weight=1.0,
                layers=["image", "encoder.1", "blocks.0"],
                patches=16,
                width=8,
                temperature=0.5,  # at which rounding grows no more than in the other terms
            )
        }
    ),
    "negatives": Variant({"adversarial": Adversarial(negatives={"edges": 1.0, "grey_edges": 0.1})}),
    "Adam": Variant(optimiser=ADAM),
    "bfloat16": Variant(precision=torch.bfloat16),
}


def noise(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0


def make(variant: Variant, group: Ranks, accumulate: int) -> tuple[TrainState, Objective]:
    """The same networks and targets wherever it is called."""
    default = {
        "adversarial": Adversarial(weight=0.5),
        "content": Content(weight=1.0, layers=["relu2_1"]),
        "style": GramStyle(weight=1.0, layers=["relu1_1"]),
        "tv": SquaredVariation(weight=0.1),
    }
    terms = {name: term for name, term in (default | variant.terms).items() if term is not None}
    torch.manual_seed(START)
    layers = [*content_layers(terms.values()), *style_layers(terms.values())]
    objective = Objective(terms, compact(layers=layers, weights="random"), variant.balance)
    styles = [noise(1, 3, 24, 24, seed=5), noise(1, 3, 32, 20, seed=6)]
    for target in objective.targets:
        if variant.library:
            objective.set_library(target, {str(n): [(0, picture)] for n, picture in enumerate(styles)})
        else:
            objective.set_style(target, enumerate(styles))
    generator: nn.Module = ResnetGenerator(width=4, blocks=1)
    if variant.library:
        generator = LibraryGenerator(width=4, blocks=1, styles=["one", "two"])
    if variant.reference:
        generator = ReferenceGenerator(width=4, blocks=1, code=3)
    count = 2 if variant.library else 0
    discriminator = PatchDiscriminator(receptive_field=16, width=4, styles=count) if "adversarial" in terms else None
    projection = objective.make_projection(generator)
    trained = [*generator.parameters(), *(projection.parameters() if projection is not None else ())]
    networks = {"generator": generator, "discriminator": discriminator, "projection": projection}
    state = TrainState(
        generator=generator,
        discriminator=discriminator,
        ema=Ema(generator, 0.9),
        generator_optimiser=variant.optimiser(trained),
        discriminator_optimiser=variant.optimiser(discriminator.parameters()) if discriminator else None,
        schedule=lambda step: 1.0,
        seed=7,
        warmup_steps=variant.warmup_steps,
        clip=variant.clip,
        accumulate=accumulate,
        projection=projection,
    )
    if group.count > 1:
        state.parallel = {name: group.shared(network) for name, network in networks.items() if network is not None}
    return state, objective


def batch_of(step: int, group: Ranks, *, library: bool = False, reference: bool = False) -> Batch:
    """This rank's part of a step's batch; its pictures are smooth, as photos are, and no two are alike."""
    content, style = (F.interpolate(noise(BATCH, 3, 6, 6, seed=2 * step + i), SIZE, mode="bilinear") for i in (0, 1))
    pictures = [((x + 1.0) * 127.5).round().to(torch.uint8) for x in (content, style)]
    positions = list(range(step * BATCH, (step + 1) * BATCH))
    condition = torch.tensor([[1.0, 0.0], [0.0, 0.6], [0.1, 0.0], [0.0, 1.0]]) if library else None
    condition = torch.tensor([[1.0], [0.6], [0.1], [1.0]]) if reference else condition
    full = Batch(pictures[0], pictures[1], torch.arange(BATCH) % 2, positions, [], condition)
    return full.split(group.count)[group.rank]


def train(variant: Variant, group: Ranks, accumulate: int = 1, steps: int = STEPS) -> dict[str, Any]:
    """Every step audited; gradients of the first step, weights and buffers after the last, scalars of all ranks."""
    state, objective = make(variant, group, accumulate)
    actual: dict[str, Any] = {"scalars": [], "gradients": {}, "weights": {}}
    networks = {"generator": state.generator, "discriminator": state.discriminator, "projection": state.projection}
    networks = {name: network for name, network in networks.items() if network is not None}
    precision = Precision(torch.device("cpu"), variant.precision)
    for step in range(steps):
        batch = batch_of(step, group, library=variant.library, reference=variant.reference)
        scalars = train_step(state, batch, objective, precision, audit=True)
        ((_, values),) = fetch_scalars([(state.step, scalars)], group)
        actual["scalars"].append(values)
        end_warmup(objective, values, last=state.step == variant.warmup_steps)
        if step == 0:
            trained = {
                name: [p.grad for p in network.parameters() if p.requires_grad] for name, network in networks.items()
            }
            actual["gradients"] = {
                name: torch.cat([gradient.flatten() for gradient in gradients])
                for name, gradients in trained.items()
                if gradients[0] is not None
            }
    for name, network in networks.items():
        actual["weights"][name] = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    actual["weights"]["ema"] = {key: tensor.clone() for key, tensor in state.ema.network.state_dict().items()}
    return actual | {"term weights": dict(objective.weights)}


def end_warmup(objective: Objective, values: dict[str, float], *, last: bool) -> None:
    """What the loop does with an audit within the warm-up."""
    if objective.balance is not None and not objective.balance.settled:
        objective.balance.observe({name: values[f"gradient/{name}"] for name in objective.balance.shares})
        if last:
            objective.settle_balance()


class Poisoned(Term):
    """A term that on one rank, in one step, is not a finite number, or has a gradient that is none."""

    def __init__(self, kind: str, rank: int) -> None:
        super().__init__(weight=1.0)
        self.kind, self.rank, self.calls = kind, rank, 0

    def __call__(self, inputs: Any) -> Tensor:
        self.calls += 1
        mean: Tensor = inputs.fake.mean()
        if self.calls != 3 or self.rank != 1:
            return mean
        return mean + math.inf if self.kind == "loss" else (mean - mean.detach()).sqrt()  # value 0, gradient infinite


def poisoned(kind: str, group: Ranks, optimiser: Any) -> dict[str, Any]:
    """Three steps, of which the third is poisoned on one rank; the state before and after it."""
    variant = Variant({"poison": Poisoned(kind, group.rank)}, optimiser=optimiser)
    state, objective = make(variant, group, 1)
    for step in range(3):
        before = trained_part(state)
        scalars = train_step(state, batch_of(step, group), objective, Precision(torch.device("cpu")))
    return {"before": before, "after": trained_part(state), "skipped": scalars["generator/skipped"].item()}


def trained_part(state: TrainState) -> list[Tensor]:
    """What an update of the generator changes: weights, moments and counts of steps."""
    moments = [x for item in state.generator_optimiser.state.values() for x in item.values() if isinstance(x, Tensor)]
    return [tensor.detach().clone() for tensor in [*state.generator.parameters(), *moments]]


def main(folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    with ranks() as group:
        actual: dict[str, Any] = {name: train(VARIANTS[name], group) for name in names}
        actual["poisoned"] = {
            (kind, name): poisoned(kind, group, optimiser)
            for kind in ("loss", "gradient")
            for name, optimiser in (("Adam", ADAM), ("SGD", SGD))
        }
        torch.save(actual, folder / f"{group.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
