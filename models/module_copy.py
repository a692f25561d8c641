"""A copy of the caller's module that topwork can freeze: without wrappers, in float32, in evaluation mode."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import InputError, reason
from ..user_cache import prepare_folder, user_cache_folder
from .module_output import iterate_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPED_CHILDREN = {
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
    "timm.utils.model_ema.ModelEmaV2": "module",
    "timm.utils.model_ema.ModelEmaV3": "module",
}
"""Wrappers that compute what the module inside does, with the name of that module."""
REFUSED_CLASSES = {
    "torch.jit._script.ScriptModule": "TorchScript; pass the module from before torch.jit.script or torch.jit.trace",
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": (
        "a wrapper whose weights are spread over processes; gather them into the module inside and pass that"
    ),
}
QUANTIZED_PACKAGE = "torch.ao.nn.quantized"
LARGE_MODULE_BYTES = 1536 * 2**20
"""Modules with more bytes of tensors are copied to disk, to leave the memory to what computes with them."""
MIN_MAPPED_BYTES = 2**20


def private_copy(module: Any) -> nn.Module:
    """Return a copy of the caller's module on the CPU, so that freezing does not change theirs.

    Wrappers are replaced by the module inside them; floating point becomes float32. Raise an InputError if the module
    has no values, is quantised or compiled to TorchScript, or cannot be copied.
    """
    inner = unwrap(check_is_module(module))
    check_values(inner)
    try:
        copied = copy.deepcopy(inner, {**copy_computed_tensors(inner), **map_large_tensors(inner)})
    except Exception as error:
        raise InputError(
            f"{name_class(inner)} cannot be copied: {reason(error)}. Expected a module that copy.deepcopy copies; "
            "topwork freezes a copy, so that yours can still be trained."
        ) from error
    unwrap_children(copied)
    return copied.cpu().float()


def check_is_module(module: Any) -> nn.Module:
    """Return a module that can be traced; raise an InputError for anything else."""
    from torch import nn

    if not isinstance(module, nn.Module):
        raise InputError(
            f"backbone is a {type(module).__name__}; expected a name, or a torch.nn.Module (not its class)"
        )
    for part in module.modules():
        for name in list_class_names(part):
            if name in REFUSED_CLASSES:
                raise InputError(f"{name_class(module)} is or holds {REFUSED_CLASSES[name]}.")
            if name.startswith(QUANTIZED_PACKAGE):
                raise InputError(
                    f"{name_class(module)} has quantised layers ({name_class(part)}), which cannot be exported. Pass "
                    "the network from before its quantisation; precision='int8' quantises the exported graph."
                )
    return module


def unwrap(module: nn.Module) -> nn.Module:
    """Return the module inside the wrappers of training and compilation."""
    for name in list_class_names(module):
        if name in WRAPPED_CHILDREN:
            return unwrap(check_is_module(getattr(module, WRAPPED_CHILDREN[name])))
    return module


def unwrap_children(module: nn.Module) -> None:
    """Replace every wrapper inside a module, and forget what ``Module.compile`` has compiled."""
    for part in list(module.modules()):
        part._compiled_call_impl = None
        for name, child in list(part._modules.items()):
            if child is not None:
                part._modules[name] = unwrap(child)


def check_values(module: nn.Module) -> None:
    """Raise an InputError if a parameter or buffer has no values yet."""
    from torch.nn.parameter import is_lazy

    for name, tensor in iterate_state(module):
        if is_lazy(tensor):
            raise InputError(
                f"{name_class(module)}: {name!r} is lazy and has no shape yet. Run the module once on a batch, then "
                "pass it."
            )
        if tensor.is_meta:
            raise InputError(
                f"{name_class(module)}: {name!r} is on the device 'meta' and has no values. Load the weights into the "
                "module (to_empty, load_state_dict), then pass it."
            )


def iterate_state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers of a module with their names."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def copy_computed_tensors(module: nn.Module) -> dict[int, Any]:
    """Return the memo with which ``copy.deepcopy`` copies a module whose attributes hold results of operations.

    Such are the weights that ``torch.nn.utils.weight_norm`` keeps; ``copy.deepcopy`` refuses them.
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        for tensor in iterate_tensors(vars(part)):
            if tensor.requires_grad and not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    return memo


def map_large_tensors(module: nn.Module) -> dict[int, Any]:
    """Return the memo with which ``copy.deepcopy`` copies the tensors of a large module to disk, in float32.

    The copies are mapped into memory from files without names, whose pages the system may drop and read again.
    """
    import torch

    tensors = [*module.parameters(), *module.buffers()]
    if os.name == "nt" or sum(tensor.nbytes for tensor in tensors) <= LARGE_MODULE_BYTES:
        return {}
    memo: dict[int, Any] = {}
    for tensor in tensors:
        is_plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if is_plain and tensor.is_floating_point() and tensor.nbytes >= MIN_MAPPED_BYTES:
            mapped = copy_to_disk(tensor)
            is_parameter = isinstance(tensor, torch.nn.Parameter)
            memo[id(tensor)] = torch.nn.Parameter(mapped, tensor.requires_grad) if is_parameter else mapped
    return memo


def copy_to_disk(tensor: Tensor) -> Tensor:
    """Return a copy in float32 that is mapped from a file without a name in the user's cache folder."""
    import torch

    content = tensor.detach().cpu().float().contiguous()
    folder = prepare_folder(user_cache_folder())
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(content.view(-1).view(torch.uint8).numpy().data)
        file.flush()
        mapped = torch.from_file(file.name, shared=False, size=content.numel(), dtype=torch.float32)
    return mapped.view(content.shape)


def set_evaluation_mode(module: nn.Module) -> None:
    """Put a module and all modules in it in evaluation mode, whatever its own ``train()`` does.

    Modules that keep a part of themselves in training mode, or return nothing, are met among those of mmdetection.
    """
    try:
        module.eval()
    except Exception as error:
        raise InputError(
            f"{name_class(module)}.eval() fails: {reason(error)}. Expected a train() that takes the mode, as that of "
            "torch.nn.Module does."
        ) from error
    for part in module.modules():
        part.training = False


def list_class_names(module: nn.Module) -> list[str]:
    """Return the full names of a module's class and the classes that it derives from."""
    return [f"{base.__module__}.{base.__qualname__}" for base in type(module).__mro__]


def name_class(module: nn.Module) -> str:
    """Return the full name of a module's class."""
    return list_class_names(module)[0]
