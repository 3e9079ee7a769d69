"""Choice of the device and of the number format."""

import torch

from resnet_demo.errors import ConfigError


def pick_device(number: int | None = None, needed: int = 1) -> torch.device:
    """Return the accelerator if there is one, else the CPU, which many processes may share.

    number: index of the accelerator; None for PyTorch's current one. needed: how many processes
    need one each. Raises ConfigError if there are fewer.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None or number is None:
        return accelerator or torch.device("cpu")
    count = torch.accelerator.device_count()
    if needed > count:
        rule = f"at most {count}, the {accelerator.type} devices of this machine"
        raise ConfigError.rule("nproc-per-node", rule, needed)
    return torch.device(accelerator.type, number)


def pick_precision(precision: str, device: torch.device) -> str:
    """Return `float32` or `bf16`; `auto` is bf16 only if the hardware multiplies in it.

    An explicit `bf16` is kept: without such hardware it works too, many times slower.
    """
    if precision != "auto":
        return precision
    # Compute capability 8.0 (Ampere) is the first with bf16 matrix units.
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    if device.type == "cpu":
        # Without these instructions the CPU emulates bf16, which is many times slower than float32.
        features = getattr(torch.cpu, "get_capabilities", dict)()  # missing in torch 2.10
        return "bf16" if features.get("avx512_bf16") or features.get("amx_bf16") else "float32"
    return "float32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of the forward pass; weights and loss stay in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def device_name(device: torch.device) -> str:
    """Return the name to show: `cpu (2 threads)` or the name of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    many = f"{threads} threads" if threads != 1 else "1 thread"
    return f"cpu ({many})" if device.type == "cpu" else device.type
