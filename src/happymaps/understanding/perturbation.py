"""A patch at every place of an image, and what the network then answers: fast and exact.

A small patch changes a small part of every layer's outputs. Only that part is computed, and the
rest is taken from the unchanged image (Nakandala et al. 2019, "Incremental and approximate
inference for faster occlusion-based deep CNN explanations").
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from happymaps.datasets import BATCH
from happymaps.networks import POOL, Conv2D, Network
from happymaps.understanding.layers import decision_scores

# What a chunk of places may take in one layer, in numbers: 4 MiB, for caches are small.
_CHUNK = 2**20
# And the weights that are copied for some of them: 32 MiB.
_WEIGHTS = 2**23
# Copying parts costs as well: from this share of the multiplications on, whole images are faster.
_WORTHWHILE = 0.7


def is_local(network: Network) -> bool:
    """Whether it can be told what part of every layer a patch changes.

    It changes what an image is normalized by, and so all of it; and regions are followed
    only through unpadded convolutions that look at every place.
    """
    spec = network.spec
    return spec.normalize == "none" and not spec.padding and spec.stride == 1


def window_starts(size: int, patch: int, stride: int) -> Tensor:
    """Where patches begin along a side of `size` pixels: (places,) int64.

    The last one may stick out; that much of it is cut off.
    """
    return torch.arange(0, max(1, min(size, size - patch + stride)), stride)


def mean_of_windows(values: Tensor, size: tuple[int, int], patch: int, stride: int) -> Tensor:
    """For each pixel the mean over the windows that cover it, or 0 where none does.

    Args:
        values: (rows, columns), one for each window.
        size: (H, W) of the image.
        patch: side of the windows.
        stride: from one window to the next.

    Returns:
        (H, W) float64 on the CPU.
    """
    covers = []
    for side in size:
        offset = torch.arange(side) - window_starts(side, patch, stride).unsqueeze(1)
        covers.append(((offset >= 0) & (offset < patch)).double())
    down, across = covers
    count = torch.outer(down.sum(dim=0), across.sum(dim=0))
    return down.T @ values.cpu().double() @ across / count.clamp_min(1)


@torch.no_grad()
def patch_scores(network: Network, image: Tensor, patch: Tensor, stride: int) -> Tensor:
    """The class scores of an image with a patch pasted at one place after the other.

    They are those of the changed images through the network, but for the order of the sums.

    Args:
        network: in evaluation mode.
        image: (C, H, W) in [0, 1], of the network's size, on its device.
        patch: (C, side, side), what is pasted.
        stride: from one place to the next, in both directions.

    Returns:
        (rows, columns, classes), places as in `window_starts`: log-odds for a softmax head,
        outputs for a linear one (see `layers.decision_scores`).
    """
    side = patch.shape[-1]
    blocks = _blocks(network)
    down, across = (
        _regions(window_starts(size, side, stride), side, size, blocks) for size in image.shape[1:]
    )
    worthwhile = is_local(network) and _share_of_work(blocks, down, across) < _WORTHWHILE
    logits_of = _logits_of_parts if worthwhile else _logits_of_wholes
    logits = logits_of(network, image, patch, down, across)
    return decision_scores(network, logits.flatten(0, 1), "head").view_as(logits)


@dataclass(frozen=True)
class _Block:
    """A convolution with the pooling and the ReLU behind it; `pool` is 1 where there is none."""

    convolution: Conv2D
    pool: int

    @property
    def lost(self) -> int:
        """How many pixels fewer come out of the convolution than go in."""
        return self.convolution.kernel_size[0] - 1

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, filters, (H - lost) // pool, (W - lost) // pool)."""
        outputs = self.convolution.before_relu(images)
        if self.pool > 1:
            outputs = nn.functional.max_pool2d(outputs, self.pool)
        return nn.functional.relu_(outputs)


def _blocks(network: Network) -> list[_Block]:
    return [
        _Block(layer, POOL if isinstance(behind, nn.MaxPool2d) else 1)
        for layer, behind in itertools.pairwise(network.children())
        if isinstance(layer, Conv2D)
    ]


@dataclass(frozen=True)
class _Span:
    """For P places one stretch each along a side: where it begins, (P,), and how long it is."""

    first: Tensor
    length: int

    def seen_by(self, block: _Block) -> "_Span":
        """What goes into the block where this comes out."""
        return _Span(self.first * block.pool, self.length * block.pool + block.lost)

    def pixels(self) -> Tensor:
        """(P, length) numbers of the pixels."""
        return self.first.unsqueeze(1) + torch.arange(self.length)


# Of rows and of columns.
_Spans = tuple[_Span, _Span]


@dataclass(frozen=True)
class _Regions:
    """What a patch at each of P places can change along one side, at each of L levels.

    Level 0 is the image, level l what block l gives.

    Attributes:
        places: (P,), where the patch begins.
        firsts: (L, P), where the region begins.
        lengths: (L, P), how long it is.
        sizes: of the levels, as far as the next block looks: pooling drops an odd last row.
    """

    places: Tensor
    firsts: Tensor
    lengths: Tensor
    sizes: list[int]

    def of_one_shape(self) -> list[Tensor]:
        """The numbers of the places, parted by the lengths of their regions."""
        kinds, kind_of = torch.unique(self.lengths, dim=1, return_inverse=True)
        return [(kind_of == kind).nonzero().squeeze(1) for kind in range(kinds.shape[1])]

    def spans(self, chosen: Tensor) -> list[_Span]:
        """Per level the regions of chosen places, which are of one shape."""
        lengths = self.lengths[:, chosen[0]].tolist()
        return [_Span(*span) for span in zip(self.firsts[:, chosen], lengths, strict=True)]


def _regions(places: Tensor, patch: int, size: int, blocks: list[_Block]) -> _Regions:
    """Interval arithmetic: pixels reach some outputs of a block, which reach some of the next.

    At the border a region is moved inside, not cut: more is computed, but of the same shape.
    """
    for block in blocks:
        size = (size - block.lost) // block.pool
    sizes = [size]
    for block in reversed(blocks):
        sizes.insert(0, sizes[0] * block.pool + block.lost)
    first, stop = places, places + patch
    firsts, lengths = [], []
    for level, available in enumerate(sizes):
        if level:
            block = blocks[level - 1]
            first, stop = (first - block.lost) // block.pool, -(-stop // block.pool)
        length = (stop - first).clamp_max(available)
        firsts.append(torch.minimum(first.clamp_min(0), available - length))
        lengths.append(length)
    return _Regions(places, torch.stack(firsts), torch.stack(lengths), sizes)


def _share_of_work(blocks: list[_Block], down: _Regions, across: _Regions) -> float:
    """Multiplications that the regions take, as a share of those of whole images."""
    heights, widths = (regions.lengths.double().mean(dim=1).tolist() for regions in (down, across))
    parts = wholes = 0.0
    for level, block in enumerate(blocks, start=1):
        cost = block.convolution.weight.numel() * block.pool**2
        parts += cost * heights[level] * widths[level]
        wholes += cost * down.sizes[level] * across.sizes[level]
    return parts / wholes


def _logits_of_wholes(
    network: Network, image: Tensor, patch: Tensor, down: _Regions, across: _Regions
) -> Tensor:
    """(rows, columns, classes): every changed image through the whole network."""
    side = patch.shape[-1]
    parts = []
    for places in torch.cartesian_prod(down.places, across.places).split(BATCH):
        images = image.repeat(len(places), 1, 1, 1)
        for changed, (row, column) in zip(images, places.tolist(), strict=True):
            window = changed[:, row : row + side, column : column + side]
            window.copy_(patch[:, : window.shape[1], : window.shape[2]])
        parts.append(network.logits(images))
    return torch.cat(parts).view(len(down.places), len(across.places), -1)


def _logits_of_parts(
    network: Network, image: Tensor, patch: Tensor, down: _Regions, across: _Regions
) -> Tensor:
    """(rows, columns, classes): only what the patch can change is computed."""
    blocks = _blocks(network)
    outputs = [image.unsqueeze(0)]
    for block in blocks:
        outputs.append(block(outputs[-1]))
    # Channels last, here and in the weights: a region is then a few long rows of memory.
    maps = [output[0].permute(1, 2, 0).contiguous() for output in outputs]
    first, *others = (layer for layer in network.children() if isinstance(layer, nn.Linear))
    weight = first.weight.unflatten(1, outputs[-1].shape[1:]).permute(2, 3, 1, 0).contiguous()
    answers = _before_relu(first, outputs[-1].flatten(1))
    answers = answers.repeat(len(down.places), len(across.places), 1)
    for rows, columns in itertools.product(down.of_one_shape(), across.of_one_shape()):
        for row, column in _chunks(blocks, down, across, rows, columns):
            spans = list(zip(down.spans(row), across.spans(column), strict=True))
            values = _pasted(maps[0], patch, spans[0], down.places[row], across.places[column])
            changes = _changes(blocks, maps, values, spans)
            answers[row, column] += _through_dense(changes, weight, spans[-1])
    for layer in others:
        answers = _before_relu(layer, nn.functional.relu_(answers))
    return answers


def _before_relu(layer: nn.Linear, inputs: Tensor) -> Tensor:
    return nn.functional.linear(inputs, layer.weight, layer.bias)


def _chunks(
    blocks: list[_Block], down: _Regions, across: _Regions, rows: Tensor, columns: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers of row and column of each place, so that places of one last region are together."""
    places = torch.cartesian_prod(rows, columns)
    row, column = places.unbind(dim=1)
    last = down.firsts[-1, row] * across.sizes[-1] + across.firsts[-1, column]
    largest = 1
    for level, block in enumerate(blocks, start=1):
        height, width = (
            regions.spans(chosen)[level].seen_by(block).length
            for regions, chosen in ((down, rows), (across, columns))
        )
        largest = max(largest, height * width * max(block.convolution.weight.shape[:2]))
    for chunk in places[last.argsort(stable=True)].split(max(1, _CHUNK // largest)):
        yield chunk[:, 0], chunk[:, 1]


def _numbers(spans: _Spans, width: int) -> Tensor:
    """(P, height, width): numbers of the regions' pixels in a map that is `width` wide."""
    rows, columns = spans
    return rows.pixels().unsqueeze(2) * width + columns.pixels().unsqueeze(1)


def _cut(whole: Tensor, spans: _Spans) -> Tensor:
    """(H, W, C) -> (P, height, width, C): the regions, as a copy."""
    numbers = _numbers(spans, whole.shape[1]).to(whole.device)
    cut = whole.flatten(0, 1).index_select(0, numbers.flatten())
    return cut.view(*numbers.shape, -1)


def _pasted(image: Tensor, patch: Tensor, spans: _Spans, rows: Tensor, columns: Tensor) -> Tensor:
    """(P, height, width, C): regions of the image (H, W, C) with the patch where it begins."""
    side = patch.shape[-1]
    # A patch that sticks out begins behind its region, which was moved inside.
    down = spans[0].pixels() - rows.unsqueeze(1)
    across = spans[1].pixels() - columns.unsqueeze(1)
    down, across = down.unsqueeze(2), across.unsqueeze(1)
    inside = (down >= 0) & (down < side) & (across >= 0) & (across < side)
    pasted = patch.permute(1, 2, 0)[down.clamp(0, side - 1), across.clamp(0, side - 1)]
    return torch.where(inside.unsqueeze(3).to(image.device), pasted, _cut(image, spans))


def _changes(
    blocks: list[_Block], maps: list[Tensor], values: Tensor, spans: list[_Spans]
) -> Tensor:
    """(P, h, w, C): by how much the regions of the last map change, given those of the image."""
    for block, whole, (down, across), behind in zip(blocks, maps, spans, spans[1:], strict=False):
        rows, columns = (span.seen_by(block) for span in behind)
        around = _cut(whole, (rows, columns))
        number = torch.arange(len(values))
        inside = (
            _Span(number * rows.length + down.first - rows.first, down.length),
            _Span(across.first - columns.first, across.length),
        )
        numbers = _numbers(inside, columns.length).to(values.device)
        around.flatten(0, 2).index_copy_(0, numbers.flatten(), values.flatten(0, 2))
        values = block(around.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return values - _cut(maps[-1], spans[-1])


def _through_dense(changes: Tensor, weight: Tensor, spans: _Spans) -> Tensor:
    """(P, neurons): what changes of some regions add to a dense layer's answers.

    Args:
        changes: (P, h, w, C).
        weight: (H, W, C, neurons).
        spans: the regions; equal ones are neighbours.
    """
    rows, columns = spans
    neurons = weight.shape[-1]
    changes, weight = changes.flatten(1), weight.flatten(2)
    corners = torch.stack([rows.first, columns.first], dim=1)
    corners, counts = torch.unique_consecutive(corners, dim=0, return_counts=True)
    starts = counts.cumsum(dim=0) - counts
    at_once = max(1, _WEIGHTS // (changes.shape[1] * neurons))
    added = changes.new_empty(len(changes), neurons)
    # Regions that as many places have are multiplied together.
    for count in counts.unique():
        for alike in (counts == count).nonzero().squeeze(1).split(at_once):
            members = _Span(starts[alike], int(count)).pixels()
            row, column = corners[alike].unbind(dim=1)
            seen = _cut(weight, (_Span(row, rows.length), _Span(column, columns.length)))
            added[members] = torch.bmm(changes[members], seen.view(len(alike), -1, neurons))
    return added
