"""torchvision's networks with a head for the classes at hand, cut into steps at their filters, and one epoch of them.

A filter is an output channel of a conv layer. The outputs of the last layer are the class logits,
not filters. squeezenet1_1 has 2,944 filters, squeezenet1_0 2,976, inception_v3 17,216.
"""

import hashlib
import math
import operator
import os
import warnings
from dataclasses import dataclass
from typing import Callable, NamedTuple

import numpy as np
import torch
import torchvision
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.nn.functional import cross_entropy, relu
from tqdm import tqdm

import records
from datasets import GENDERS, normalise
from settings import Stop

ARCHS = {  # the smallest images that each takes. Another of torchvision's classifiers is one more entry
    "squeezenet1_1": 32, "squeezenet1_0": 32, "resnet18": 32, "resnet50": 32, "vgg16": 32, "inception_v3": 75}
OUT_OF_PLACE = {getattr(operator, f"i{name}"): getattr(operator, name) for name in ("add", "sub", "mul", "truediv")}


def build(arch, weights, image_size=224, classes=GENDERS):
    """A network with a head of len(classes) logits, float32 on the CPU, channels last. Raises Stop.

    weights: "imagenet" (downloaded by torchvision), "none", or the path of a state dict; a head of
    another number of classes in it is left out.
    """
    if arch not in ARCHS:
        raise Stop(f"ARCH={arch}: must be {' or '.join(ARCHS)}")
    if image_size < ARCHS[arch]:
        raise Stop(f"IMAGE_SIZE={image_size}: {arch} needs at least {ARCHS[arch]} pixels")
    # transform_input: ImageNet's weights of inception_v3 were trained on other means and deviations
    more = {"aux_logits": False, "init_weights": True, "transform_input": True} if arch == "inception_v3" else {}
    network = getattr(torchvision.models, arch)(num_classes=len(classes), **more)
    head = _head(network)
    if arch.startswith("squeezenet"):
        # The head ends in ReLU: from scratch its logits soon are negative for every image, then 0 for
        # good (the loss stays at ln 2). A positive bias keeps them alive.
        nn.init.constant_(network.get_submodule(head).bias, 1.0)
    if weights != "none":
        state = _imagenet(arch) if weights == "imagenet" else _state_dict(weights)
        if isinstance(state, dict):
            state = {name: value for name, value in state.items() if not name.startswith("AuxLogits.")}
            own = network.get_submodule(head).state_dict(prefix=f"{head}.")
            if any(getattr(state.get(name), "shape", None) != value.shape for name, value in own.items()):
                state |= own
        _load(network, state, arch, weights)
    return network.to(memory_format=torch.channels_last)


def pretrained(arch, weights, image_size, classes):
    """A network as its weights are, in eval mode, that tells the given classes apart. Raises Stop.

    weights: as in build. Of ImageNet's 1,000 logits, those with the classes' names are taken: the network then chooses among these
    alone. Otherwise there must be as many logits as classes, in alphabetical order, as ImageNet's folders and torchvision's ImageFolder have it.
    """
    if weights == "none":
        raise Stop("WEIGHTS=none: an untrained network has nothing to find; run train_squeeze.py first, or give --WEIGHTS=imagenet or a path")
    network = build(arch, "none", image_size, classes)
    state = _imagenet(arch) if weights == "imagenet" else _state_dict(weights)
    head = f"{_head(network)}."
    logits = {name: value for name, value in state.items() if name.startswith(head)} if isinstance(state, dict) else {}
    counts = {len(value) for value in logits.values() if isinstance(value, torch.Tensor)}
    known = torchvision.models.get_model_weights(arch).DEFAULT.meta["categories"]
    unknown = [name for name in classes if name.replace("_", " ") not in known]
    if counts == {1000} and not unknown:
        state = state | {name: value[[known.index(some.replace("_", " ")) for some in classes]] for name, value in logits.items()}
    elif counts == {1000} != {len(classes)}:
        raise Stop(f"the class {unknown[0]} is none of ImageNet's by name, which torchvision's weights know; name the folders as "
                   "torchvision does (tabby, tiger_cat, ...), train a network first (train_squeeze.py), or give other --WEIGHTS")
    elif counts != {len(classes)}:
        raise Stop(f"WEIGHTS={weights}: a head of {' and '.join(map(str, sorted(counts))) or 'no'} logits, but there are {len(classes)} classes; "
                   "give other --WEIGHTS, or train a network first (train_squeeze.py)")
    _load(network, {name: value for name, value in state.items() if not name.startswith("AuxLogits.")}, arch, weights)
    return network.eval()


def _head(network):
    """The name of the layer that gives the logits."""
    return [name for name, module in network.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))][-1]


def checkpoint(network, **constants):
    """What squeezenet.pth holds; torch.load(path, weights_only=True) reads it. constants: those to be kept, by name."""
    return {**{name.lower(): value for name, value in constants.items()}, "state_dict": network.state_dict()}


def load(path, classes=GENDERS, weights=None, **constants):
    """The network of a checkpoint, or of a plain state dict for the same number of classes, in eval mode. Raises Stop.

    weights: of the pretrained network to take where there is no such file; None: it must be there.
    constants: ARCH and others that must be as they were in training, if the checkpoint has them.
    """
    if not os.path.exists(path):
        if weights is None:
            raise Stop(f"{path} is missing; run train_squeeze.py first, with the same RECORDS_DIR")
        return pretrained(constants["ARCH"], weights, constants.get("IMAGE_SIZE", 224), classes)
    checkpoint = read(path)
    if (known := checkpoint.get("classes", classes)) != classes:
        different = sorted(set(known) ^ set(classes)) or known
        raise Stop(f"{path} was trained to tell other classes apart ({', '.join(different[:3])}); give its data, or another --RECORDS_DIR")
    for name, given in constants.items():
        made = checkpoint.get(name.lower(), given)
        if made != given:
            made, given = (",".join(map(str, value)) if isinstance(value, tuple) else value for value in (made, given))
            raise Stop(f"{path} was trained with {name}={made}, not {given}; "
                       f"give --{name}={made}, or train anew under another RECORDS_DIR")
    network = build(constants["ARCH"], "none", constants.get("IMAGE_SIZE", 224), classes)
    _load(network, checkpoint.get("state_dict", checkpoint), constants["ARCH"], path)
    return network.eval()


def digest(network):
    """Short hash of a network's weights, which ties records to it."""
    state = hashlib.sha256()
    for name, value in network.state_dict().items():
        state.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return state.hexdigest()[:16]


# ----------------------------------------------------------------------------- steps


class Filters(NamedTuple):
    """All filters of a conv layer."""

    layer: str      # the conv's name in the network
    players: slice  # their numbers
    low: float      # their lowest possible output: 0 behind a ReLU, else -inf


@dataclass
class Step:
    """A value on the way from images to logits: an operation's output, or a gate, where filters can be removed."""

    inputs: tuple[int, ...]                  # the steps whose outputs it takes; none for the images
    run: Callable | None = None              # of an operation: (B, ...) tensors, one an input -> (B, ...)
    filters: tuple[Filters | None, ...] = ()   # of a gate, one an input: whose raw output it is; None: no conv's
    channels: tuple[slice, ...] = ()         # of a gate, one an input: its place among the output's channels
    shape: tuple[int, ...] = ()              # of its output, for one image


def cut(network, image_size):
    """Cut a network in eval mode into steps, by tracing its operations (torch.fx), batch norms folded into convs.

    Returns a list of Step; the first stands for the images, the last gives the logits. A gate follows
    every conv, behind its batch norm and ReLU if it has them, and takes the place of the torch.cat of
    several convs. Filters are numbered in the order in which their convs are called. Raises ValueError
    for a network that cannot be cut so, or whose steps then do not give its logits.
    """
    traced = _traced(network).requires_grad_(False)
    modules, nodes = dict(traced.named_modules()), list(traced.graph.nodes)

    def is_layer(node, *kinds):
        return node.op == "call_module" and isinstance(modules[node.target], kinds)

    def is_relu(node):
        return is_layer(node, nn.ReLU) or (node.op, node.target) in (
            ("call_function", relu), ("call_function", torch.relu), ("call_method", "relu"))

    def is_cat(node):
        return node.target is torch.cat and (*node.args[1:], *node.kwargs.values()) == (1,)

    def only_user(node):
        return next(iter(node.users)) if len(node.users) == 1 else None

    head = [node for node in nodes if is_layer(node, nn.Conv2d, nn.Linear)][-1]  # its outputs are the logits
    steps, chains = [], {}    # chains[number of a step]: an operation's nodes, one after the other
    number, filters = {}, {}  # by node: of the step that gives its output; Filters, if those are waiting for their gate

    def add_operation(node):
        sources = node.all_input_nodes
        chain = chains.get(number[sources[0]])
        if chain and sources == chain[-1:] and only_user(chain[-1]):  # nothing else needs what it starts from
            chain.append(node)
            number[node] = number[sources[0]]
        else:
            number[node] = len(steps)
            chains[len(steps)] = [node]
            steps.append(Step(tuple(number[source] for source in sources)))

    def add_gate(node, sources):
        steps.append(Step(tuple(number[source] for source in sources),
                          filters=tuple(filters.pop(source, None) for source in sources)))
        number[node] = len(steps) - 1

    n_filters = 0
    for node in nodes:
        if node.op == "placeholder":
            number[node] = len(steps)
            steps.append(Step(()))
        elif is_cat(node) and any(source in filters for source in node.all_input_nodes):
            add_gate(node, node.args[0])
        elif node not in number and node.op != "output":  # a ReLU behind a conv is in its gate already
            add_operation(node)
            if is_layer(node, nn.Conv2d) and node is not head:
                rectified = only_user(node) and is_relu(only_user(node))
                last = only_user(node) if rectified else node
                players = slice(n_filters, n_filters + modules[node.target].out_channels)
                filters[last] = Filters(node.target, players, 0.0 if rectified else -math.inf)
                n_filters = players.stop
                number[last] = number[node]
                user = only_user(last)
                if not (user and is_cat(user) and list(user.args[0]).count(last) == 1):  # else the gate is there
                    add_gate(last, [last])
    for step, chain in chains.items():
        steps[step].run = _function(traced, chain)
    _measure(steps, network, image_size)
    return steps


def _traced(network):
    """A network as a torch.fx.GraphModule in which every conv is called once and nothing works in place."""
    try:
        traced = fuse(network).eval().to(memory_format=torch.channels_last)
    except Exception as error:  # torch.fx raises a dozen kinds
        raise ValueError(f"torch.fx cannot trace it ({str(error).partition(chr(10))[0]})") from None
    modules = dict(traced.named_modules())
    for module in modules.values():
        if hasattr(module, "inplace"):  # outputs of steps are kept, and must stay what they are
            module.inplace = False
    convs = []
    for node in traced.graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], nn.Conv2d):
            convs.append(node.target)
        node.target = "reshape" if node.target == "view" else OUT_OF_PLACE.get(node.target, node.target)
        node.kwargs = {name: value for name, value in node.kwargs.items() if name != "inplace"}
        if node.op in ("call_function", "call_method") and getattr(node.target, "__name__", node.target).endswith("_"):
            raise ValueError(f"{node.target} works in place")
        if node.op not in ("placeholder", "output") and not node.all_input_nodes:
            raise ValueError(f"{node.name} depends on no image")
    if not convs or len(convs) > len(set(convs)):
        raise ValueError("a conv is called more than once" if convs else "it has no convs")
    if sum(node.op == "placeholder" for node in traced.graph.nodes) > 1:
        raise ValueError("it takes more than images")
    return traced


def _measure(steps, network, image_size):
    """Fill in what steps' outputs look like, and check that they lead to the network's logits. Raises ValueError."""
    images = torch.randn((2, 3, image_size, image_size), generator=torch.Generator().manual_seed(0))
    images = 3 * images.to(next(network.parameters()).device, memory_format=torch.channels_last)
    try:
        with torch.no_grad():
            values, expected = forward(steps, images), network(images)
        for step, value in zip(steps, values):
            ends = np.cumsum([0] + [values[source].shape[1] for source in step.inputs]).tolist()
            step.shape, step.channels = tuple(value.shape[1:]), tuple(map(slice, ends, ends[1:]))
            if len(value) != len(images):
                raise ValueError("a step's output does not go by images")
        torch.testing.assert_close(values[-1], expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
    except (ValueError, TypeError, AttributeError, IndexError, AssertionError) as error:
        raise ValueError(f"its steps do not give its logits ({str(error).partition(chr(10))[0]})") from None


def _function(traced, nodes):
    """A chain of a traced network's nodes as a function of the first one's inputs."""
    graph = torch.fx.Graph()
    copies = {source: graph.placeholder(source.name) for source in nodes[0].all_input_nodes}
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[nodes[-1]])
    return torch.fx.GraphModule(traced, graph)


def forward(steps, images):
    """The outputs of all steps, with every filter at work: what steps mean."""
    values = [images]
    for step in steps[1:]:
        inputs = [values[number] for number in step.inputs]
        if step.run:
            values.append(step.run(*inputs))
        else:
            values.append(torch.cat([value.clamp_min(conv.low) if conv else value
                                     for conv, value in zip(step.filters, inputs)], 1))
    return values


# ----------------------------------------------------------------------------- an epoch


def optimizer(module, learning_rate, steps):
    """AdamW for a module's parameters, and its schedule: OneCycleLR, which warms up over a tenth of the steps."""
    adam, steps = torch.optim.AdamW(module.parameters(), learning_rate), max(3, steps)
    # OneCycleLR divides by the length of its warm-up less one step, so that may not be exactly one.
    return adam, torch.optim.lr_scheduler.OneCycleLR(adam, learning_rate, total_steps=steps, pct_start=max(0.1, 1.5 / steps))


def epoch(network, data, device, batch_size, optimizer=None, schedule=None, rng=None, bar="", mirror=True):
    """One pass over `data` (Images): trains if there is an optimizer, else evaluates.

    rng: numpy generator for order and mirroring, in training only; mirror: half of the images.
    Returns (mean cross-entropy, correct), correct (N,) bool in the order of `data`.
    """
    training = optimizer is not None
    network.train(training)
    rows = rng.permutation(len(data.label)) if training else np.arange(len(data.label))
    loss_sum = torch.zeros((), device=device)
    correct = torch.zeros(len(rows), dtype=torch.bool, device=device)
    batches = range(0, len(rows), batch_size)
    with torch.set_grad_enabled(training):
        for start in tqdm(batches, bar, unit=" batches", leave=False, disable=not bar):
            batch = torch.from_numpy(rows[start:start + batch_size])
            images, label = normalise(data.images[batch], device), data.label[batch].to(device)
            if training and mirror:
                mirrored = torch.from_numpy(rng.random(len(batch)) < 0.5).to(device)
                images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
            logits = network(images)
            loss = cross_entropy(logits, label)
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            loss_sum += loss.detach() * len(batch)
            correct[batch.to(device)] = logits.detach().argmax(1) == label
    return loss_sum.item() / len(rows), correct.cpu()


@torch.no_grad()
def margins(network, faces, device, batch_size=250):
    """The logit of "male" less that of "female" for all faces: (N,) float32."""
    network.eval()
    logits = [network(normalise(images, device)) for images in faces.images.split(batch_size)]
    return torch.cat([some[:, 1] - some[:, 0] for some in logits]).cpu().numpy()


def device_of(name):
    """torch.device for DEVICE. Raises Stop where there is no such device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:  # torchrun's processes take a GPU each
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise Stop(f"DEVICE={name}: PyTorch sees no CUDA GPU here; give --DEVICE=cpu or auto")
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32: V must not depend on how coalitions are batched
    try:
        torch.zeros(1, device=name).cpu()  # some devices exist by name only
        return torch.device(name)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise Stop(f"DEVICE={name}: PyTorch has no such device here; give auto, cpu or cuda") from None


def _imagenet(arch):
    try:
        return torchvision.models.get_model_weights(arch).DEFAULT.get_state_dict(check_hash=True)
    except OSError as error:
        raise Stop(f"WEIGHTS=imagenet: the download failed ({error}); give --WEIGHTS=PATH of a state dict, "
                   "or --WEIGHTS=none to train from scratch") from None


def _state_dict(path):
    if not os.path.exists(path):
        raise Stop(f"WEIGHTS={path}: no such file; give imagenet, none, or the path of a state dict")
    checkpoint = read(path)
    return checkpoint.get("state_dict", checkpoint)


def read(path):
    """What torch.save wrote, if it is a dict of tensors and plain values; never unpickles. Raises Stop."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch has to say of foreign files is said below
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError
        return state
    except Exception as error:  # torch raises a dozen kinds for truncated files and for pickles of anything else
        raise Stop(f"{path} is damaged or holds no weights ({type(error).__name__}); "
                   "give another file, or delete it and train again") from None


def _load(network, state, arch, path):
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError):
        raise Stop(f"{path} does not fit {arch} for these classes; give --ARCH of the network "
                   "that it was trained with, or another file") from None
