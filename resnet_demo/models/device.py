"""Which device computes, in which number format."""

import torch

from resnet_demo.errors import ConfigError


def pick_device(number: int | None = None, needed: int = 1) -> torch.device:
    """The accelerator when there is one, else the CPU, which any number of processes may share.

    number: which of several, from 0; None: the one that PyTorch would take. Raises ConfigError
    where there are fewer accelerators than are needed, one a process.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None or number is None:
        return accelerator or torch.device("cpu")
    there = torch.accelerator.device_count()
    if needed > there:
        rule = f"at most {there}, the {accelerator.type} devices of this machine"
        raise ConfigError.rule("nproc-per-node", rule, needed)
    return torch.device(accelerator.type, number)


def pick_precision(asked: str, device: torch.device) -> str:
    """`float32` or `bf16`; `auto` takes bf16 only where the hardware multiplies in it.

    Without such hardware bf16 still computes, many times slower: asked for by name, it is given.
    """
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    if device.type == "cpu":
        features = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 cannot tell
        return "bf16" if features.get("avx512_bf16") or features.get("amx_bf16") else "float32"
    return "float32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which the network runs forward; weights and loss stay in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def device_name(device: torch.device) -> str:
    """What a person calls it: `cpu (2 threads)` or the name of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    many = f"{threads} threads" if threads != 1 else "1 thread"
    return f"cpu ({many})" if device.type == "cpu" else device.type
