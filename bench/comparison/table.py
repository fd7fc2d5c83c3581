"""The record as Markdown."""

from .inference import ours_name


def rows(header, lines):
    """A Markdown table; the first column is text, the others are figures."""
    out = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    return out + ["| " + " | ".join(line) + " |" for line in lines]


def number(value):
    """Three digits that count."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def mebibytes(value):
    return f"{value / 2**20:.0f} MiB"


def verdict_line(name, verdict):
    """One target: ours, the best rival, the ratio and whether it is met."""
    what = f"{name}, {verdict['precision']}" + ("" if verdict["what"] == "time" else f", {verdict['what']}")
    target = "ahead" if verdict["target"] == 1.0 else f"≤ {verdict['target']:.2f}"
    if "ratio" not in verdict:
        return [what, verdict.get("absent", "no rival ran"), "–", "–", "–", target, "–"]
    show = number if verdict["what"] == "time" else mebibytes
    return [
        what, show(verdict["ours"]), verdict["rival"], show(verdict["theirs"]), f"{verdict['ratio']:.2f}", target,
        "met" if verdict["met"] else "missed",
    ]


VERDICT = ["", "ours", "fastest rival", "theirs", "ratio", "target", ""]


def targets(rows_of_record):
    return rows(VERDICT, [verdict_line(row["case"], v) for row in rows_of_record for v in row.get("verdicts", [])])


def all_times(rows_of_record):
    """Medians of everyone, minima in brackets."""
    names = []
    for row in rows_of_record:
        names += [name for name in [*row["engines"], *row["absent"]] if name not in names]
    ours = [ours_name("f32"), ours_name("bf16")]
    names.sort(key=lambda name: name not in ours)
    lines = []
    for row in rows_of_record:
        cells = []
        for name in names:
            entry = row["engines"].get(name)
            cells.append(f"{number(entry['median_ms'])} ({number(entry['min_ms'])})" if entry else "–")
        lines.append([row["case"], *cells])
    return rows(["milliseconds, median (minimum)", *names], lines)


def absences(rows_of_record):
    """Who did not run, and why; cases with the same reason on one line."""
    reasons = {}
    for row in rows_of_record:
        for name, reason in row["absent"].items():
            reasons.setdefault((name, reason), []).append(row["case"])
    return [f"- {name}: {reason} ({', '.join(cases)})" for (name, reason), cases in reasons.items()]


def errors(rows_of_record):
    """How far each precision of each engine was from f64 at worst."""
    worst = {}
    for row in rows_of_record:
        for name, entry in row["engines"].items():
            if "largest_error" in entry:
                old = worst.get(name, (0.0, 0.0))
                worst[name] = (max(old[0], entry["largest_error"]), max(old[1], entry["rms_error"]))
    lines = [[name, f"{largest:.1e}", f"{rms:.1e}"] for name, (largest, rms) in worst.items()]
    return rows(["error of the logits, worst case", "largest ÷ largest logit", "rms ÷ deviation"], lines)
