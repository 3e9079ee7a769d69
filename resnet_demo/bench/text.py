"""Benchmark results as text for a terminal. No torch here."""

from collections.abc import Iterator
from typing import Any

from resnet_demo.runs.text import share_text

LOOP_NAMES = {
    "article": "the tutorial's loop",
    "loader": "DataLoader, {workers} workers",
    "probed": "with probes",
    "compiled": "compiled",
}

# In the order in which a visitor meets them. CPU seconds too: other programs on the machine change
# them less.
WAITS = (  # key, text, format, unit
    ("page", "`python app.py` to the first page", ".2f", " s"),
    ("page_cpu", "  CPU seconds", ".2f", " s"),
    ("memory", "  memory then", ",.0f", " MB"),
    ("train_cold", "Train to the first step, a new worker", ".2f", " s"),
    ("train_cold_cpu", "  CPU seconds", ".2f", " s"),
    ("train_warm", "Train to the first step, page open", ".2f", " s"),
    ("train_warm_cpu", "  CPU seconds", ".2f", " s"),
    ("train_again", "  once more", ".2f", " s"),
    ("warm_ratio", "  page open / new worker", ".2f", " times"),
    ("warm_ratio_cpu", "  the same, of CPU seconds", ".2f", " times"),
    ("classify_first", "first picture classified, page open for 5 s", ".2f", " s"),
    ("classify_next", "  the next", ".2f", " s"),
    ("classify_ratio", "  first / next", ".2f", " times"),
    ("evaluate", "evaluate the shipped network, command line", ".2f", " s"),
    ("evaluate_cpu", "  CPU seconds", ".2f", " s"),
    ("import", "import of {pictures:,} PNG files", ".2f", " s"),
)


def throughput_lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield a table of medians, with minimum and maximum in brackets."""
    yield describe_conditions(result) + f", {result['rounds']} rounds of {result['seconds']:g} s"
    yield f"{'loop':<24} {'images/s':<30} this program is faster by"
    spread = result["spread"]
    rate = with_range(result["images_per_s"], spread["images_per_s"], ",.1f")
    yield f"{'this program':<24} {rate}"
    for name, ratio in result["ratio"].items():
        rate = with_range(result["against"][name], spread["against"][name], ",.1f")
        times = with_range(ratio, spread["ratio"][name], ".2f", " times")
        yield f"{LOOP_NAMES[name].format_map(result):<24} {rate:<30} {times}"


def with_range(value: float, spread: list[float], form: str, unit: str = "") -> str:
    """Return a value and its range: "2.10 times (2.05 to 2.20)"."""
    low, high = spread
    return f"{value:{form}}{unit} ({low:{form}} to {high:{form}})"


def share_with_range(values: dict[str, float]) -> str:
    """Return the median of shares and their range, in percent."""
    median, low, high = (share_text(values[name], 2) for name in ("median", "min", "max"))
    return f"{median} ({low} to {high})"


def describe_conditions(row: dict[str, Any]) -> str:
    """Return model, dataset, image size, batch size, precision and device as text."""
    return (
        f"{row['model']} on {row['dataset']}, {row['image_size']} pixels, batches of "
        f"{row['batch_size']}, {row['precision']}, {row['device']}"
    )


def accuracy_lines(row: dict[str, Any]) -> Iterator[str]:
    """Yield the line of a seed, or the lines of the summary."""
    if "seed" in row:
        yield seed_line(row)
    else:
        yield from summary_lines(row)


def seed_line(row: dict[str, Any]) -> str:
    """Return the result of one seed in one line."""
    return (
        f"seed {row['seed']}: test top-1 {share_text(row['test_top1'], 2)}, with six views "
        f"{share_text(row['test_top1_of_six'], 2)}, with ten views "
        f"{share_text(row['test_top1_of_ten'], 2)}, "
        f"val top-1 {share_text(row['val_top1'], 2)} (epoch {row['best_epoch']}); "
        f"training {row['train_seconds']:.1f} s, with validation {row['seconds']:.1f} s"
    )


def summary_lines(row: dict[str, Any]) -> Iterator[str]:
    """Yield medians with minimum and maximum over the seeds; times measured and scaled."""
    conditions = describe_conditions(row)
    yield f"recipe {row['recipe']}, {row['epochs']} epochs, {conditions}, seeds: {row['seeds']}"
    for name, label in (
        ("test_top1", "test top-1"),
        ("test_top1_of_six", "test top-1, six views"),
        ("test_top1_of_ten", "test top-1, ten views"),
        ("val_top1", "val top-1"),
        ("train_seconds", "training, seconds"),
        ("seconds", "with validation, seconds"),
        ("scaled_seconds", f"scaled × {row['scale']:.3f}"),
    ):
        values = row[name]
        # Seconds; shares are percentages with two decimals.
        text = with_range(values["median"], [values["min"], values["max"]], ".1f")
        yield f"{label:<26} {share_with_range(values) if 'top1' in name else text}"
    yield (
        f"reference ResNet-9: {row['reference_images_per_s']:,.0f} images/s here; times stated for "
        f"a machine with {row['scaled_to']:,.0f} images/s are × {row['allowance']:.2f} here"
    )


def roofline_line(row: dict[str, Any]) -> str:
    """Return the line of the machine or of a network."""
    return share_line(row) if "model" in row else machine_line(row)


def machine_line(row: dict[str, Any]) -> str:
    """Return the best rates of the machine in one line."""
    return (
        f"{row['device']}, {row['precision']}: matrix product {row['gemm_flop_per_s'] / 1e9:,.0f} "
        f"GFLOP/s, 3x3 convolution {row['convolution_flop_per_s'] / 1e9:,.0f} GFLOP/s"
    )


def share_line(row: dict[str, Any]) -> str:
    """Return a network's share of the best rates, and the parts of a step, in one line."""
    step = sum(row["parts"].values())
    parts = ", ".join(
        f"{name} {share_text(seconds / step, 0)}" for name, seconds in row["parts"].items()
    )
    return (
        f"{describe_conditions(row)}: {row['images_per_s']:,.1f} images/s, "
        f"{row['flop_per_s'] / 1e9:,.0f} GFLOP/s = {share_text(row['share_of_gemm'], 0)} of the "
        f"matrix product, {share_text(row['share_of_convolution'], 0)} of the convolution; of a "
        f"step: {parts}"
    )


def latency_lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield a table of medians in milliseconds, with minimum and maximum in brackets."""
    yield (
        f"{result['run']}, {result['model']}, {result['image_size']} pixels, {result['device']}; "
        f"{result['rounds']} rounds, {result['processes']} processes"
    )
    height, width = result["shape"]
    for name, text in (
        ("picture", f"JPEG of {width} x {height}, label and map"),
        ("batch", f"{result['images']} stored images, labels"),
        ("fresh", "new process with loading torch, label"),
    ):
        ms = {key: 1000 * seconds for key, seconds in result[name].items()}
        yield f"{text:<38} {with_range(ms['median'], [ms['min'], ms['max']], ',.1f', ' ms')}"


def ood_lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield a table with a line per kind, the run's own test images first."""
    threshold = result["threshold"]
    when = "now" if result["measured_now"] else "when its weights were saved"
    score, images = {
        "energy": ("energy", "validation images"),
        "distance": ("distance to the nearest training image", "images that it was not fitted to"),
        # The limit of the energy is set on images that the network did not learn from, that of the
        # distance on images left out of the fit.
    }[result["measure"]]
    yield (
        f"{result['run']}, {result['model']} on {result['dataset']}: {score} over "
        f"{threshold['threshold']:.3f}, set {when} on {threshold['n']:,} {images} for "
        f"{share_text(threshold['false_alarms'], 0)} false alarms"
    )
    yield f"{'images':<24} {'number':>7} {'flagged':>8} {'AUROC':>7}"
    own = result["own"]
    yield f"{'its own test images':<24} {own['n']:>7,} {share_text(own['flagged'], 2):>8}"
    for kind, row in result["kinds"].items():
        yield f"{kind:<24} {row['n']:>7,} {share_text(row['flagged'], 2):>8} {row['auroc']:>7.4f}"


def waits_lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield a table of medians with minimum and maximum, and what was left out."""
    yield f"{result['rounds']} rounds; median (least to most)"
    for name, text, form, unit in WAITS:
        # What could not be measured is None; `left_out` has the reason.
        if (row := result.get(name)) is not None:
            value = with_range(row["median"], [row["min"], row["max"]], form, unit)
            yield f"{text.format_map(result):<56} {value}"
    yield from (f"left out: {reason}" for reason in result["left_out"])
