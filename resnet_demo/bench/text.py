"""Measurements in words, for a terminal. No torch here."""

from collections.abc import Iterator
from typing import Any

LOOPS = {
    "article": "the tutorial's loop",
    "loader": "DataLoader, {workers} workers",
    "probed": "with probes",
    "compiled": "compiled",
}


def throughput_lines(result: dict[str, Any]) -> Iterator[str]:
    """A table: medians, and in brackets the least and the most."""
    yield in_words(result) + f", rounds: {result['rounds']} of {result['seconds']:g} s"
    yield f"{'loop':<24} {'images/s':<30} this program is faster by"
    spread = result["spread"]
    rate = between(result["images_per_s"], spread["images_per_s"], ",.1f")
    yield f"{'this program':<24} {rate}"
    for name, ratio in result["ratio"].items():
        rate = between(result["against"][name], spread["against"][name], ",.1f")
        times = between(ratio, spread["ratio"][name], ".2f", " times")
        yield f"{LOOPS[name].format_map(result):<24} {rate:<30} {times}"


def between(value: float, spread: list[float], form: str, unit: str = "") -> str:
    """2.10 times (2.05 to 2.20)."""
    least, most = spread
    return f"{value:{form}}{unit} ({least:{form}} to {most:{form}})"


def in_words(row: dict[str, Any]) -> str:
    """What was measured, on what."""
    return (
        f"{row['model']} on {row['dataset']}, {row['image_size']} pixels, batches of "
        f"{row['batch_size']}, {row['precision']}, {row['device']}"
    )


def accuracy_lines(row: dict[str, Any]) -> Iterator[str]:
    """A seed in one line, or all of them summed up."""
    return iter([seed_line(row)]) if "seed" in row else summary_lines(row)


def seed_line(row: dict[str, Any]) -> str:
    """What one seed reached, and how soon."""
    return (
        f"seed {row['seed']}: test top-1 {row['test_top1']:.2%}, of six views "
        f"{row['test_top1_of_six']:.2%}, of ten {row['test_top1_of_ten']:.2%}, "
        f"val top-1 {row['val_top1']:.2%} "
        f"(epoch {row['best_epoch']}); {row['train_seconds']:.1f} s in steps, "
        f"{row['seconds']:.1f} s with validation"
    )


def summary_lines(row: dict[str, Any]) -> Iterator[str]:
    """Medians, least and most over the seeds; the times as measured and as on a known machine."""
    yield f"recipe {row['recipe']}, {row['epochs']} epochs, {in_words(row)}, seeds: {row['seeds']}"
    for name, words in (
        ("test_top1", "test top-1"),
        ("test_top1_of_six", "the same of six views"),
        ("test_top1_of_ten", "the same of ten views"),
        ("val_top1", "val top-1"),
        ("train_seconds", "seconds in steps"),
        ("seconds", "seconds with validation"),
        ("scaled_seconds", f"the same × {row['scale']:.3f}"),
    ):
        values = row[name]
        form = ".2%" if "top1" in name else ".1f"
        yield f"{words:<24} {between(values['median'], [values['min'], values['max']], form)}"
    yield (
        f"reference ResNet-9: {row['reference_images_per_s']:,.0f} images/s here; a time stated "
        f"for {row['scaled_to']:,.0f} is × {row['allowance']:.2f} here"
    )


def roofline_line(row: dict[str, Any]) -> str:
    """The machine, or a network on it."""
    return share_line(row) if "model" in row else machine_line(row)


def machine_line(row: dict[str, Any]) -> str:
    """The best rates."""
    return (
        f"{row['device']}, {row['precision']}: matrix product {row['gemm_flop_per_s'] / 1e9:,.0f} "
        f"GFLOP/s, 3x3 convolution {row['convolution_flop_per_s'] / 1e9:,.0f} GFLOP/s"
    )


def share_line(row: dict[str, Any]) -> str:
    """The shares of them, and the parts of a step."""
    whole_step = sum(row["parts"].values())
    parts = ", ".join(f"{name} {took / whole_step:.0%}" for name, took in row["parts"].items())
    return (
        f"{in_words(row)}: {row['images_per_s']:,.1f} images/s, {row['flop_per_s'] / 1e9:,.0f} "
        f"GFLOP/s = {row['share_of_gemm']:.0%} of the matrix product, "
        f"{row['share_of_convolution']:.0%} of the convolution; of a step: {parts}"
    )


def latency_lines(result: dict[str, Any]) -> Iterator[str]:
    """A table: medians in milliseconds, and in brackets the least and the most."""
    yield (
        f"{result['run']}, {result['model']}, {result['image_size']} pixels, {result['device']}; "
        f"{result['rounds']} rounds, {result['processes']} processes"
    )
    height, width = result["shape"]
    for name, text in (
        ("picture", f"a JPEG of {width} x {height}, label and map"),
        ("batch", f"{result['images']} stored images, labels"),
        ("fresh", "a new process, torch loaded, label"),
    ):
        took = {key: 1000 * seconds for key, seconds in result[name].items()}
        yield f"{text:<38} {between(took['median'], [took['min'], took['max']], ',.1f', ' ms')}"


def ood_lines(result: dict[str, Any]) -> Iterator[str]:
    """A table: a kind a line, the run's own test images first."""
    threshold = result["threshold"]
    where = "now" if result["measured_now"] else "when its weights were saved"
    yield (
        f"{result['run']}, {result['model']} on {result['dataset']}: energy over "
        f"{threshold['threshold']:.3f}, set {where} on {threshold['n']:,} validation images for "
        f"{threshold['false_alarms']:.0%} false alarms"
    )
    yield f"{'images':<24} {'number':>7} {'flagged':>8} {'AUROC':>7}"
    own = result["own"]
    yield f"{'its own test images':<24} {own['n']:>7,} {own['flagged']:>8.2%}"
    for kind, row in result["kinds"].items():
        yield f"{kind:<24} {row['n']:>7,} {row['flagged']:>8.2%} {row['auroc']:>7.4f}"
