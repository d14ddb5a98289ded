"""Many coalitions at once: what a GPU evaluates, each distinct output of a step once."""

import torch


def run_together(steps, last_use, keep, images, limits):
    """Logits of T coalitions, each distinct output of a step computed once.

    Args:
        steps: from graph.cut.
        last_use: {step: the last step that takes its output}.
        keep: (T, n_filters) bool.
        images: (B, 3, S, S) float32, normalised.
        limits: lowest and highest outputs, (T, n_filters, 1, 1) each, see Coalitions.

    Returns:
        (T, B, classes) float32.
    """
    # values[step] has the images' outputs for one distinct coalition after the other; row[step]
    # says for each of the T coalitions which of them is its own.
    values, row = {0: images}, {0: [0] * len(keep)}
    for number, step in enumerate(steps[1:], 1):
        own, first = distinct(zip(*(row[source] for source in step.inputs)))
        inputs = []
        for source in step.inputs:
            rows = [row[source][t] for t in first]
            inputs.append(_take(values[source], rows, len(images)))
        for source in set(step.inputs):
            if last_use[source] == number:
                del values[source]
        if step.run:
            row[number], values[number] = own, step.run(*inputs)
        else:
            row[number], values[number] = _run_gate(step, keep, own, first, inputs, limits)
    return _take(values[number], row[number], len(images)).unflatten(0, (len(keep), -1))


def _run_gate(step, keep, own, first, inputs, limits):
    """A gate for T coalitions: which of its distinct outputs belongs to which, and the outputs.

    Args:
        step: the gate.
        keep: (T, n_filters) bool.
        own: list of T ints, which of the distinct inputs belongs to each coalition.
        first: the coalition in which each distinct input comes first. The outputs of those come
            first, in place of the inputs; what shares its input with another follows.
        inputs: one tensor an input of the gate, (len(first) * B, channels, height, width).
        limits: as from Coalitions._limits.
    """
    masks = []
    for t in range(len(keep)):
        masks.append([keep[t, conv.players].tobytes() for conv in step.filters if conv])
    row, representatives = distinct((own[t], *masks[t]) for t in range(len(keep)))
    copies = [t for t in representatives if t not in set(first)]
    place = {t: number for number, t in enumerate(first + copies)}
    batch = len(inputs[0]) // len(first)
    alone = len(inputs) == 1 and not copies
    output = inputs[0] if alone else empty_output(len(place) * batch, step.shape, inputs[0])
    for raw, conv, channels in zip(inputs, step.filters, step.channels):
        for start, coalitions in ((0, first), (len(first), copies)):
            if not coalitions:
                continue
            rows = [own[t] for t in coalitions]
            part = _take(raw, rows, batch).unflatten(0, (-1, batch))  # (coalitions, B, ...)
            target = output.unflatten(0, (-1, batch))[start : start + len(coalitions), :, channels]
            if conv:
                ends = [limit[:, conv.players][coalitions].unsqueeze(1) for limit in limits]
                torch.clamp(part, *ends, out=target)
            else:
                target.copy_(part)
    return [place[representatives[number]] for number in row], output


def distinct(keys):
    """Number keys as they first appear: (the number of each, where each number comes first)."""
    numbers, row, first = {}, [], []
    for place, key in enumerate(keys):
        if key not in numbers:
            numbers[key] = len(first)
            first.append(place)
        row.append(numbers[key])
    return row, first


def _take(values, rows, batch):
    """The given rows of values (R * batch, ...), (len(rows) * batch, ...).

    Not copied if they are all rows, in order.
    """
    if rows == list(range(len(values) // batch)):
        return values
    rows = torch.tensor(rows, device=values.device)
    # movedim: a copy of channels-last values then is channels last
    return values.movedim(1, -1).unflatten(0, (-1, batch))[rows].flatten(0, 1).movedim(-1, 1)


def empty_output(length, shape, like):
    """An uninitialised output (length, *shape), channels last, of the type of `like`."""
    shape, layout = (length, *shape), torch.channels_last
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)
