"""Contextual decomposition of an LSTM.

Its gates are functions of relevant, rest and bias (Murdoch et al. 2018): a gate splits into what
is above f(b), by the rule, and f(b) itself.
"""

from typing import NamedTuple

import torch
from torch.nn import functional

from explain.parts import Parts


class Gate(NamedTuple):
    """A gate of an LSTM: its total is relevant + other + bias."""

    relevant: torch.Tensor  # (M, B, H)
    other: torch.Tensor  # (M, B, H), of the rest without its bias
    bias: torch.Tensor  # (H,)
    total: torch.Tensor  # (B, H)


def _gate(rule, function, relevant, total, bias):
    """Split f(t + b) into the part, the rest and f(b).

    relevant: (M, B, H); total: (B, H), without the bias (H,).
    """
    base = function(bias)

    def above_base(values):
        return function(values + bias) - base

    part = rule.gate(above_base, relevant, total)
    return Gate(part, above_base(total) - part, base, function(total + bias))


def _gated(rule, gate, relevant, rest):
    """The relevant part of a gate times relevant + rest: (M, B, H)."""
    mixed = gate.relevant * rest + gate.other * relevant
    return (gate.relevant + gate.bias) * relevant + rule.interaction * mixed


def split_lstm(module, rule, parts):
    """One layer of LSTM: ((output, (hidden, cell))), each of Parts.

    c' = f c + i g and h' = o tanh(c'), with every factor split by the rule. The product of the
    biases of i and g belongs to the part if the word does (Murdoch et al. 2018).
    """
    if module.num_layers != 1 or module.bidirectional or module.proj_size:
        raise ValueError("an LSTM of several layers or directions, or with projections")
    if not module.batch_first:
        raise ValueError("an LSTM without batch_first=True")
    n_masks, (batch, length) = len(parts.relevant), parts.total.shape[:2]
    weights, size = (module.weight_ih_l0, module.weight_hh_l0), module.hidden_size
    zero = parts.total.new_zeros(batch, size)
    bias = zero.new_zeros(4 * size)
    if module.bias:
        bias = module.bias_ih_l0 + module.bias_hh_l0
    hidden = cell = Parts(zero.expand(n_masks, batch, size), zero)
    outputs = []
    for step in range(length):
        words = Parts(parts.relevant[:, :, step], parts.total[:, step])
        sums = []
        for word, state in zip(words, hidden):
            sums.append(functional.linear(word, weights[0]) + functional.linear(state, weights[1]))
        pieces = zip(*(values.chunk(4, -1) for values in (*sums, bias)))
        kinds = (torch.sigmoid, torch.sigmoid, torch.tanh, torch.sigmoid)
        gates = [_gate(rule, kind, *piece) for kind, piece in zip(kinds, pieces)]
        holds_word = (words.relevant != 0).any(-1, keepdim=True)
        cell = _next_cell(rule, gates, cell, holds_word)
        hidden = _next_hidden(rule, gates[3], cell)
        outputs.append(hidden)
    relevant = torch.stack([output.relevant for output in outputs], 2)
    output = Parts(relevant, torch.stack([output.total for output in outputs], 1))
    last = [
        Parts(state.relevant.unsqueeze(1), state.total.unsqueeze(0)) for state in (hidden, cell)
    ]
    return output, tuple(last)


def _next_cell(rule, gates, cell, holds_word):
    """The cell's Parts after a word: c' = f c + i g."""
    enter, forget, new, _ = gates
    relevant = _gated(rule, forget, cell.relevant, cell.rest)
    relevant = relevant + _gated(rule, enter, new.relevant, new.other)
    relevant = relevant + enter.relevant * new.bias + holds_word * (enter.bias * new.bias)
    return Parts(relevant, forget.total * cell.total + enter.total * new.total)


def _next_hidden(rule, gate, cell):
    """The hidden state's Parts: h = o tanh(c)."""
    shown, total = rule.gate(torch.tanh, *cell), torch.tanh(cell.total)
    if not rule.splits_output_gate:
        return Parts(gate.total * shown, gate.total * total)
    return Parts(_gated(rule, gate, shown, total - shown), gate.total * total)
